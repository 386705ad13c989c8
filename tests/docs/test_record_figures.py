"""Numbers in prose are those of the records; a name that none of them holds is refused."""

import csv
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAITHFUL = ROOT / "examples" / "records" / "faithful"


@pytest.fixture
def figures(monkeypatch):
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    return pytest.importorskip("record_figures")


@pytest.fixture
def replace_roles(figures):
    return pytest.importorskip("record_role").replace_roles


def read_record(case):
    path = FAITHFUL / f"{case}-as_coded-seed0" / "record.json"
    return json.loads(path.read_text(encoding="utf-8"))


def read_curves(case):
    with (FAITHFUL / f"{case}-as_coded-seed0" / "curves.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_number_of_a_record_is_the_records(figures):
    parameters = read_record("inception_8")["discriminator_parameters"]
    assert figures.find_figure("faithful/inception_8 parameters").text == f"{parameters:,}"
    kept = read_record("original")["memory_predicted"]["saved_bytes_plain"]
    assert figures.find_figure("faithful/original kept, plain").value == kept
    assert figures.find_figure("faithful/original kept, plain").text == f"{kept / 2**20:.2f} MiB"


def test_reading_of_a_curve_is_the_curves(figures):
    losses = {
        int(row["iteration"]): float(row["discriminator_loss"]) for row in read_curves("original")
    }
    assert figures.find_figure("faithful/original L_D at 500").value == losses[500]
    assert figures.find_figure("faithful/original lowest L_D").value == min(losses.values())
    assert figures.find_figure("faithful/original final L_D").value == losses[max(losses)]
    crossed = next(iteration for iteration, loss in losses.items() if loss < 7)
    assert figures.find_figure("faithful/original first L_D below 7").value == crossed


def test_curve_above_a_level_is_found_too(figures):
    rows = read_curves("original")
    crossed = next(int(row["iteration"]) for row in rows if float(row["generator_loss"]) > 9.5)
    assert figures.find_figure("faithful/original first L_G above 9.5").value == crossed


def test_over_divides_and_of_says_the_share(figures):
    one, other = (
        read_record(case)["discriminator_parameters"] for case in ("inception_32", "original")
    )
    share = figures.find_figure("faithful/inception_32 parameters of faithful/original")
    times = figures.find_figure("faithful/original parameters over faithful/inception_32")
    assert share.value == pytest.approx(one / other)
    assert share.text == f"{100 * one / other:.0f} %"
    assert times.value == pytest.approx(other / one)
    assert float(times.text) == pytest.approx(other / one, rel=0.05)
    assert len(times.sources) == 4


def test_ratio_has_two_digits_however_large(figures, monkeypatch):
    values = {"a/b": 345678.0, "c/d": 1.0}
    monkeypatch.setattr(
        figures, "_look_up", lambda place, what: figures.Figure(values[place], "", ())
    )
    assert figures.find_figure("a/b parameters over c/d").text == "350,000"
    assert figures.find_figure("c/d parameters over c/d").text == "1"


def test_plots_of_2018_are_read_too(figures):
    path = ROOT / "src" / "gaslayers" / "study" / "report" / "seed_curves.csv"
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    (row,) = (row for row in csv.reader(lines) if row[:2] == ["generator", "inception_32"])
    losses = [float(loss) for loss in row[2:]]
    assert figures.find_figure("2018/inception_32 highest L_G").value == max(losses)
    assert figures.find_figure("2018/inception_32 lowest L_G").value == min(losses)
    assert figures.find_figure("2018/inception_32 last L_G").value == losses[-1]


@pytest.mark.parametrize("name", ["lean_eager", "lean_without_kernels"])
def test_benchmark_says_how_many_works_took_longer(figures, name):
    path = ROOT / "benchmarks" / "records" / f"{name}.json"
    works = json.loads(path.read_text(encoding="utf-8"))["work"].values()
    times = [
        work["rows"]["gaslayers"]["time_ratio"] for work in works if "gaslayers" in work["rows"]
    ]
    assert figures.find_figure(f"{name} works").value == len(times)
    assert figures.find_figure(f"{name} slower").value == len(
        [time for time in times if time > 1.0]
    )
    assert figures.find_figure(f"{name} longest").text == f"{max(times):.2f}"


def test_work_that_takes_as_long_as_plain_is_not_slower(figures, monkeypatch, tmp_path):
    rows = {f"work {i}": {"rows": {"gaslayers": {"time_ratio": 0.5 * i}}} for i in (1, 2, 3)}
    rows["without a lean way"] = {"rows": {}}
    path = tmp_path / "benchmarks" / "records" / "timed.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"work": rows}), encoding="utf-8")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    found = [figures.find_figure(f"timed {what}").text for what in figures.OF_BENCHMARK]
    assert found == ["3", "1", "1.50", "1.00"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("faithful/original", "must be a place and what is read there"),
        ("faithful/original mood", "`faithful/original` has no `mood`"),
        ("faithful/original L_D at 3", "`faithful/original` has no `L_D at 3`"),
        ("faithful/original first L_D below 0", "has no `first L_D below 0`"),
        ("faithful/no_case final L_D", "no_case"),
        ("2018/original mean L_D", "`2018/original` has no `mean L_D`"),
        ("2018/no_case last L_D", "have no case `no_case`"),
        ("lean_nowhere slower", "lean_nowhere.json` is missing"),
        ("lean_eager mood", "`lean_eager` has no `mood`"),
        ("faithful/original parameters of faithful/no_case", "no_case"),
    ],
)
def test_unknown_name_is_refused(figures, name, fault):
    with pytest.raises(figures.UnknownFigureError, match=fault):
        figures.find_figure(name)


def test_number_follows_its_record(figures, monkeypatch, tmp_path):
    run = "original-as_coded-seed0"
    copy = tmp_path / "examples" / "records" / "faithful" / run
    shutil.copytree(FAITHFUL / run, copy)
    record = read_record("original") | {"discriminator_parameters": 4321}
    (copy / "record.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    assert figures.find_figure("faithful/original parameters").text == "4,321"


def test_notebooks_get_the_numbers_themselves(replace_roles):
    parameters = read_record("original")["discriminator_parameters"]
    text = "D has :record:`faithful/original\n parameters` of them, see :doc:`/results/index`."
    assert replace_roles(text) == f"D has {parameters:,} of them, see :doc:`/results/index`."


def test_role_shows_the_number_and_reports_an_unknown_name(figures, tmp_path):
    application = pytest.importorskip("sphinx.testing.util").SphinxTestApp
    (tmp_path / "conf.py").write_text("extensions = ['record_role']\n", encoding="utf-8")
    page = ":record:`faithful/original parameters` and :record:`faithful/original mood`"
    (tmp_path / "index.rst").write_text(f"Page\n====\n\n{page}\n", encoding="utf-8")
    app = application("html", srcdir=tmp_path)
    try:
        app.build()
        shown = (app.outdir / "index.html").read_text(encoding="utf-8")
        said = app.warning.getvalue()
        dependencies = {Path(path).name for path in app.env.dependencies["index"]}
    finally:
        app.cleanup()
    assert f"{read_record('original')['discriminator_parameters']:,}" in shown
    assert "faithful/original mood" in shown  # so that a reader sees where a number is missing
    assert "index.rst:4: ERROR: `faithful/original` has no `mood`" in said
    assert {"record.json", "curves.csv"} <= dependencies
