"use strict";
const text = document.getElementById("text");
const verdict = document.getElementById("verdict");
const rows = [...document.querySelectorAll("tr[data-channels]")];
const cells = [...document.querySelectorAll("button.cell[data-channel]")];
const count = document.getElementById("count");
let channel = "";
function filter() {
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const content = row.textContent.toLowerCase();
    const fits = (!channel || row.dataset.channels.split("|").includes(channel)) &&
      (!verdict.value || row.dataset.verdict === verdict.value) &&
      words.every((word) => content.includes(word));
    row.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${rows.length}`;
  for (const cell of cells) cell.setAttribute("aria-pressed", String(cell.dataset.channel === channel));
}
for (const cell of cells) {
  cell.addEventListener("click", () => {
    channel = channel === cell.dataset.channel ? "" : cell.dataset.channel;
    filter();
  });
}
text.addEventListener("input", filter);
verdict.addEventListener("change", filter);
document.getElementById("all").addEventListener("click", () => {
  channel = ""; text.value = ""; verdict.value = ""; filter();
});
filter();
