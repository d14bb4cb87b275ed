// What the pages do beyond htmx: running clocks and costs, what is stale, copy buttons, keys, the terminate dialog. All
// work without it.
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
  if (document.documentElement.classList.contains("stale")) return;
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

// A page says when what it shows may no longer be true: no answer, signed out, another version of the app.
const POLLED = '[hx-trigger^="every"]';
let heard = Date.now();
let ticked = heard;
let asked = heard;
let failures = 0;
let state = "";

function say(now, text, link, where) {
  if (state === now) return;
  state = now;
  const bar = document.getElementById("stale");
  bar.firstElementChild.textContent = text;
  bar.lastElementChild.hidden = !link;
  bar.lastElementChild.textContent = link || "";
  if (where) bar.lastElementChild.href = where;
  // Signing in beside a form that is filled in leaves the form as it is.
  bar.lastElementChild.target = document.querySelector("form.launch") ? "_blank" : "";
  document.documentElement.classList.toggle("stale", now === "lost" || now === "out");
}

function lost(why, asking) {
  if (state === "out") return;
  if (++failures > 1 || !asking.matches(POLLED)) {
    const since = new Date(heard + ahead).toISOString().slice(11, 19);
    say("lost", `${why} What you see is as of ${since} UTC.`);
  } else {
    // One poll may be lost; a second one soon tells.
    setTimeout(() => htmx.trigger(asking, "every"), 2500);
  }
}

document.addEventListener("htmx:before:request", (event) => {
  // Nobody looks at a hidden page, nothing is answered to whoever is signed out, and what fails is asked for less often.
  if (!event.target.matches(POLLED)) return;
  const pause = failures > 1 ? Math.min(20000, 2500 * 2 ** failures) : 0;
  if (document.hidden || state === "out" || Date.now() - asked < pause) event.preventDefault();
  else asked = Date.now();
});
document.addEventListener("htmx:after:request", (event) => {
  const { status, headers } = event.detail.ctx.response;
  if (status === 401) {
    const back = encodeURIComponent(location.pathname + location.search);
    say("out", "You are signed out, so this page is no longer kept up to date.", "Sign in", `/signin?next=${back}`);
  } else if (status < 400 || status === 422) {
    heard = Date.now();
    failures = 0;
    const newer = (headers.get("X-Gpulaunch-Pages") || document.documentElement.dataset.pages) !== document.documentElement.dataset.pages;
    if (newer) say("newer", "Another version of gpulaunch is running now.", "Reload this page", location.href);
    else if (state) say("", "");
  } else {
    lost(`gpulaunch answered ${status}.`, event.target);
  }
});
document.addEventListener("htmx:error", (event) => lost("No answer from gpulaunch.", event.target));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  heard = Date.now();
  if (state === "out") say("", "");
  failures = 0;
  for (const one of document.querySelectorAll(POLLED)) htmx.trigger(one, "every");
  for (const one of document.querySelectorAll('[hx-trigger="seen"]')) htmx.trigger(one, "seen");
});
setInterval(() => {
  const now = Date.now();
  // A machine that slept has not been without an answer.
  if (now - ticked > 5000 || document.hidden) heard = now;
  ticked = now;
  const polled = document.querySelector(POLLED);
  const patience = polled && 8000 + 2000 * parseInt(polled.getAttribute("hx-trigger").slice(6), 10);
  if (polled && !state && now - heard > patience) lost("No answer from gpulaunch.", document.body);
}, 1000);

// What was typed for a launch or an endpoint stays in this tab until it is made, whatever is answered instead: signed
// out, 503, no network. Its key comes along, so that it is launched once.
const form = document.querySelector("form.launch");
const LEFT = location.pathname.startsWith("/endpoints/") ? "/deploy" : "/launch";
const KEPT = `gpulaunch-${(form?.getAttribute("action") ?? LEFT).slice(1)}`;

function fill(field, value) {
  if (field instanceof HTMLSelectElement && ![...field.options].some((one) => one.value === value)) field.add(new Option(value, value));
  if (field instanceof RadioNodeList || field.type !== "checkbox") field.value = value;
}

if (form) {
  const kept = JSON.parse((!form.dataset.answered && !location.search && sessionStorage.getItem(KEPT)) || "null");
  if (kept) {
    form.elements.force.checked = kept.some(([name]) => name === "force");
    for (const [name, value] of kept) if (form.elements[name]) fill(form.elements[name], value);
    form.querySelector("details").open = true;
    // htmx begins in a task of its own, which was queued before this one.
    setTimeout(() => htmx.trigger(document.getElementById("fields"), "change"));
  }
  form.addEventListener("submit", () => {
    const typed = [...new FormData(form)].filter(([name]) => !["csrf_token", "shown", "price"].includes(name));
    sessionStorage.setItem(KEPT, JSON.stringify(typed));
  });
} else if (/^\/(instances|endpoints)\//.test(location.pathname)) {
  sessionStorage.removeItem(KEPT);
}
document.querySelector("form.who")?.addEventListener("submit", () => ["gpulaunch-launch", "gpulaunch-deploy"].forEach((one) => sessionStorage.removeItem(one)));

// Enter plans; only the button launches.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches("#fields input")) return;
  event.preventDefault();
  htmx.trigger(event.target.closest("#fields"), "change");
});
// A link that looks like a button takes Space like one.
document.addEventListener("keydown", (event) => {
  if (event.key === " " && event.target.matches('a[role="button"]')) {
    event.preventDefault();
    event.target.click();
  }
});

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
