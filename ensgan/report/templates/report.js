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
// Pictures: a click or Enter enlarges, again or Escape takes it back.
for (const picture of document.querySelectorAll(".strip img")) {
  const set = (large) => picture.classList.toggle("large", large);
  picture.tabIndex = 0;
  picture.addEventListener("click", () => set(!picture.classList.contains("large")));
  picture.addEventListener("keydown", (event) => {
    if (event.key === "Enter") set(!picture.classList.contains("large"));
    if (event.key === "Escape") set(false);
  });
}
// Snapshots of a GAN: a slider shows one row of its picture at a time; all rows without it.
for (const strip of document.querySelectorAll(".snapshots")) {
  const names = JSON.parse(strip.dataset.names), picture = strip.querySelector("img");
  if (names.length < 2) continue;
  const label = document.createElement("label"), slider = document.createElement("input");
  const told = document.createElement("output");
  label.className = "snapshot";
  label.append("Snapshot", slider, told);
  Object.assign(slider, { type: "range", min: 0, max: names.length, value: names.length });
  const show = () => {
    const row = Number(slider.value), one = row < names.length;
    told.textContent = one ? names[row] : "all";
    strip.classList.toggle("single", one);
    const height = picture.clientHeight / names.length;
    strip.style.height = one ? `${height}px` : "";
    picture.style.transform = one ? `translateY(${-row * height}px)` : "";
  };
  slider.addEventListener("input", show);
  strip.before(label);
  show();
}
// Tables: a click on a heading sorts by it, again the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const [head, ...rows] = table.rows;
  [...head.cells].forEach((cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    let sign = -1;
    button.addEventListener("click", () => {
      sign = -sign;
      const text = (row) => row.cells[column].textContent.trim();
      rows.sort((a, b) => sign * text(a).localeCompare(text(b), "en", { numeric: true }));
      table.tBodies[0].append(...rows);
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    });
  });
}
// The overlap map: the pair under the pointer.
(() => {
  const detail = document.getElementById("overlap-detail");
  const map = document.querySelector("#overlap-map");
  if (!detail || !map) return;
  const { names, values } = JSON.parse(detail.dataset.map);
  map.addEventListener("mousemove", (event) => {
    const box = map.getBoundingClientRect(), n = names.length;
    const place = (at, start, length) => Math.min(n - 1, Math.floor(((at - start) / length) * n));
    const row = place(event.clientY, box.top, box.height);
    const column = place(event.clientX, box.left, box.width);
    const value = values[row][column];
    detail.textContent = `${names[row]} and ${names[column]}: ${value === null ? "the same" : value}`;
  });
})();
// Printing shows what is closed on the screen.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
