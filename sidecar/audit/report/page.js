"use strict";
// Show the findings that match all filters. The page works without this script and then shows all findings.
const rows = [...document.querySelectorAll("#findings tbody tr")];
const form = document.querySelector(".filters");
const texts = rows.map((row) => row.textContent.toLowerCase());
const shown = document.querySelector("#shown");
function update() {
  const severities = new Set([...form.querySelectorAll("[name=severity]:checked")].map((box) => box.value));
  const category = form.elements.category.value;
  const words = form.elements.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const [index, row] of rows.entries()) {
    const fits = severities.has(row.dataset.severity) && (!category || row.dataset.category === category)
      && words.every((word) => texts[index].includes(word));
    row.hidden = !fits;
    count += fits ? 1 : 0;
  }
  shown.textContent = `${count} of ${rows.length} findings`;
}
if (form) {
  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}
