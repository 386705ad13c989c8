// What the theme and the gallery leave unsaid to those who listen to a page or walk it by keyboard.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("nav summary")) {
    const link = summary.closest("li")?.querySelector("a");
    summary.setAttribute("aria-label", `Pages under ${link?.textContent.trim() ?? "this one"}`);
  }
  for (const link of document.querySelectorAll(".sphx-glr-thumbcontainer a.reference")) {
    link.setAttribute("aria-label", link.textContent.trim());
  }
  // A box that scrolls must be reachable by keyboard.
  for (const box of document.querySelectorAll(".output_subarea.output_html")) {
    box.tabIndex = 0;
  }
  // Long signatures are laid out by a list inside a list's term; it is no list of definitions.
  for (const part of document.querySelectorAll("dt.sig dl, dt.sig dl dd")) {
    part.setAttribute("role", "presentation");
  }
});
