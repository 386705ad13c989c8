// Charts of costs in the colours of the page, drawn anew when its theme changes.
function drawChart(box) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const { data, layout } = JSON.parse(box.nextElementSibling.textContent);
  for (const trace of data) {
    trace.marker.color = colour(trace.meta);
  }
  const background = colour("--pst-color-background");
  layout.font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--pst-color-text-base") };
  layout.paper_bgcolor = layout.plot_bgcolor = background;
  layout.hoverlabel = { bgcolor: colour("--pst-color-surface"), font: layout.font };
  for (const axis of [layout.xaxis, layout.yaxis]) {
    axis.gridcolor = colour("--pst-color-border");
    axis.linecolor = colour("--pst-color-text-muted");
  }
  Plotly.react(box, data, layout, { displayModeBar: false, responsive: true });
}

document.addEventListener("DOMContentLoaded", () => {
  const boxes = document.querySelectorAll(".cost-chart .chart");
  const drawAll = () => boxes.forEach(drawChart);
  drawAll();
  new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
});
