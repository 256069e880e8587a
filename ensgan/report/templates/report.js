"use strict";
// The front: arrow keys walk along it, Enter, blank or a click pins a point. Without this script
// the drawing, the points' titles and the table say the same.
(() => {
  const points = [...document.querySelectorAll(".point")];
  const detail = document.getElementById("front-detail");
  if (!detail || points.length === 0) return;
  const rows = points.map((point) => document.getElementById(point.dataset.row));
  let current = Math.max(0, points.findIndex((point) => point.classList.contains("chosen")));
  const show = (index) => {
    points[current].classList.remove("active");
    if (rows[current]) rows[current].classList.remove("active");
    points.forEach((point, i) => point.setAttribute("tabindex", i === index ? "0" : "-1"));
    current = index;
    points[index].classList.add("active");
    if (rows[index]) rows[index].classList.add("active");
    detail.textContent = points[index].getAttribute("aria-label");
  };
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
  points.forEach((point, index) => {
    point.addEventListener("focus", () => show(index));
    point.addEventListener("mouseenter", () => show(index));
    point.addEventListener("click", () => { show(index); point.focus(); });
    point.addEventListener("keydown", (event) => {
      let next = null;
      if (event.key in steps) next = index + steps[event.key];
      if (event.key === "Home") next = 0;
      if (event.key === "End") next = points.length - 1;
      if (event.key === "Enter" || event.key === " ") next = index;
      if (next === null) return;
      event.preventDefault();
      next = Math.min(points.length - 1, Math.max(0, next));
      show(next);
      points[next].focus();
    });
  });
  show(current);
})();
