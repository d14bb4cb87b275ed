// What the pages do beyond htmx: running clocks and costs, copy buttons, the terminate dialog. All work without it.
"use strict";

document.documentElement.classList.add("js");
// Clocks run on the server's time; a browser's may be hours off.
const ahead = Number(document.documentElement.dataset.now) - Date.now();

function lasted(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [size, unit, part, smaller] of [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / part);
      return `${Math.floor(whole / size)} ${unit}` + (rest ? ` ${rest} ${smaller}` : "");
    }
  }
  return `${whole} s`;
}

function dollars(amount) {
  const digits = amount > 0 && amount < 0.1 ? 4 : 2;
  return "$" + amount.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function count() {
  const now = Date.now() + ahead;
  for (const one of document.querySelectorAll("[data-since]")) one.textContent = lasted((now - one.dataset.since) / 1000);
  for (const one of document.querySelectorAll("[data-cost]")) {
    one.textContent = dollars(Number(one.dataset.cost) + ((now - one.dataset.at) / 3600000) * one.dataset.rate);
  }
  for (const one of document.querySelectorAll("progress[data-from]")) one.value = (now - one.dataset.from) / 1000;
}
setInterval(count, 1000);
document.addEventListener("htmx:after:swap", count);
count();

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(copy.parentElement.querySelector("code").textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  }
  const opener = event.target.closest("[data-dialog]");
  const dialog = opener && document.getElementById(opener.dataset.dialog);
  if (dialog) {
    event.preventDefault();
    dialog.showModal();
  }
  const closer = event.target.closest("dialog [data-close]");
  if (closer) {
    event.preventDefault();
    closer.closest("dialog").close();
  }
});
