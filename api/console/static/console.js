// Pages work without this. With it they stay as new as the service: a page is asked for again and
// its parts that are different take the place of the old ones. Nothing is evaluated or put together
// from text here: the server alone writes HTML.
"use strict";

const main = document.querySelector("main");
const known = new Map();
let asking = false, again = false;

// Where a form was refused, the address is the form's: the page has one of its own.
const here = main.dataset.page && !location.pathname.startsWith(`${main.dataset.page}/`)
  ? location.href : main.dataset.page || location.href;
if (here !== location.href && main.dataset.page) history.replaceState(null, "", here);
// What came of a form is said once, and not again by whoever gets this address.
if (location.search.includes("said=")) history.replaceState(null, "", location.pathname + location.hash);

const parts = (root) => [...root.querySelectorAll("[data-part]")];
for (const part of parts(document)) known.set(part.id, part.outerHTML);

// A seal is another one each time, and how long ago something was is not worth a change of its own.
const lasting = (html) => html.replace(/name="csrf" value="[^"]*"/g, "").replace(/>[^<>]* ago</g, "><");

async function refresh() {
  if (asking) { again = true; return; }
  asking = true;
  const began = performance.now();
  try {
    const answer = await fetch(here, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected && new URL(answer.url).pathname === "/sign-in") { location.reload(); return; }
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = fresh.title;
    merge(fresh);
    main.dataset.live = fresh.querySelector("main").dataset.live || "";
    listen();
    document.body.classList.remove("stale");
  } catch { lost(); }
  finally {
    asking = false;
    took = performance.now() - began;
    if (again) { again = false; soon(); }
  }
}

function merge(fresh) {
  const found = parts(fresh);
  const ids = new Set(found.map((part) => part.id));
  for (const old of parts(document)) if (!ids.has(old.id)) { old.remove(); known.delete(old.id); }
  for (const [place, part] of found.entries()) {
    const html = part.outerHTML, old = document.getElementById(part.id);
    if (old && lasting(known.get(part.id) || "") === lasting(html)) { freshen(old, part); continue; }
    known.set(part.id, html);
    if (old) replace(old, part);
    else insert(part, found.slice(place + 1));
  }
}

function insert(part, later) {
  const next = later.map((one) => document.getElementById(one.id)).find((one) => one);
  const within = part.parentElement.classList.contains("side") ? ".side" : ".column:not(.side)";
  const column = document.querySelector(within) || main;
  if (next && next.parentElement === column) column.insertBefore(part, next);
  else column.append(part);
}

// Seals and times of a part that is otherwise the same.
function freshen(old, part) {
  const seals = part.querySelectorAll("[name=csrf]"), times = part.querySelectorAll("time");
  for (const [place, seal] of old.querySelectorAll("[name=csrf]").entries()) seal.value = seals[place].value;
  for (const [place, time] of old.querySelectorAll("time").entries()) time.textContent = times[place].textContent;
}

// Who a focused element is, for its like in another part.
const reachable = (root) => [...root.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")];
const called = (one) => one.id || [one.closest("[id]")?.id, one.tagName, one.getAttribute("href"),
  one.getAttribute("formaction"), one.getAttribute("aria-label")].join(" ");
const alike = (root, name) => reachable(root).filter((one) => called(one) === name);
// A confirmation is of what was shown then, and of nothing else.
const confirms = (one) => one.matches("[name=target], [name=break_glass]") ? one.form.elements.fingerprint?.value : "";

function refocus(part, name, place, [start, end]) {
  const found = alike(part, name), one = found[place] || found[0] || part;
  if (one === part) part.tabIndex = -1;
  one.focus({ preventScroll: true });
  if (start !== undefined) one.setSelectionRange?.(start, end);
}

// What a person has opened, typed or gone to in the old part is so in the new one.
function replace(old, part) {
  const open = [...old.querySelectorAll("details[open]")].map((one) => one.id);
  const typed = [...old.querySelectorAll("input:not([type=hidden]), textarea, select")]
    .filter((one) => one.id).map((one) => [one.id, one.type === "checkbox" ? one.checked : one.value, confirms(one)]);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const name = focused && called(focused), nth = focused && alike(old, name).indexOf(focused);
  const chosen = focused?.matches("textarea, input:not([type=checkbox])") ? [focused.selectionStart, focused.selectionEnd] : [];
  const list = old.querySelector("ol.timeline");
  const atEnd = list && list.scrollTop + list.clientHeight >= list.scrollHeight - 30;
  const scrolled = list ? list.scrollTop : 0;
  old.replaceWith(part);
  for (const id of open) { const one = id && document.getElementById(id); if (one) one.open = true; }
  for (const [id, value, what] of typed) {
    const one = document.getElementById(id);
    if (!one || confirms(one) !== what) continue;
    if (one.type === "checkbox") one.checked = value;
    else if (value) one.value = value;
  }
  if (focused) refocus(part, name, nth, chosen);
  const timeline = part.querySelector("ol.timeline");
  if (timeline) timeline.scrollTop = atEnd ? timeline.scrollHeight : scrolled;
}

// A service that is slow is asked less often.
let due = 0, took = 0;
function soon() { if (!due && !document.hidden) due = setTimeout(() => { due = 0; refresh(); }, Math.max(400, 3 * took)); }
function lost() {
  if (!document.body.classList.contains("stale")) say("Not up to date, trying again");
  document.body.classList.add("stale");
}

// Events say that there is something new. A page that nobody sees does not listen: a browser has six
// connections to a host, for all of its pages together.
let source = null, silence = 0;
function listen() {
  if (source || document.hidden || !main.dataset.live) return;
  source = new EventSource(main.dataset.live);
  for (const kind of ["status", "evidence", "claim", "plan", "action"])
    source.addEventListener(kind, (event) => {
      const data = JSON.parse(event.data);
      if (kind === "status" || kind === "action") say([data.id, data.status].filter(Boolean).join(" ").replaceAll("_", " "));
      soon();
    });
  source.addEventListener("end", () => { main.dataset.live = ""; hush(); soon(); });
  source.addEventListener("open", () => document.body.classList.remove("stale"));
  source.addEventListener("error", () => {
    lost();
    // While it tries again by itself it is connecting; what was refused it does not ask for again.
    if (source?.readyState === EventSource.CLOSED) { hush(); setTimeout(() => { soon(); listen(); }, 5000); }
  });
}
function hush() { source?.close(); source = null; }
function say(text) { document.getElementById("said").textContent = text; }

// What is over may go on another day, and it is ever longer ago: it is looked at now and then.
const every = Number(main.dataset.refresh || 0);
if (every) setInterval(() => { if (!document.hidden) refresh(); }, every * 1000);
document.addEventListener("visibilitychange", () => {
  clearTimeout(silence);
  if (document.hidden) silence = setTimeout(hush, 10000);
  else { soon(); listen(); }
});
const list = document.querySelector("ol.timeline");
if (list) list.scrollTop = list.scrollHeight;
listen();

// A piece of evidence opens over the page; with a modifier key, or without this script, as a page.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a.cite");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  try {
    const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
    const look = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("look");
    if (!answer.ok || !look) throw new Error("not there");
    if (document.querySelector("dialog")) return;
    const dialog = document.createElement("dialog"), close = document.createElement("button");
    dialog.setAttribute("aria-label", link.textContent);
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.append(close, look);
    dialog.addEventListener("close", () => {
      dialog.remove();
      (link.isConnected ? link : document.querySelector(`a.cite[href="${link.getAttribute("href")}"]`))?.focus();
    });
    dialog.addEventListener("click", (inside) => { if (inside.target === dialog) dialog.close(); });
    document.body.append(dialog);
    dialog.showModal();
  } catch { location.href = link.href; }
});

// One click is one deed.
document.addEventListener("submit", (event) => {
  const form = event.target, pressed = event.submitter;
  if (form.method !== "post") return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
  if (form.matches("[data-chat]")) { event.preventDefault(); ask(form, pressed); return; }
  if (pressed) setTimeout(() => { pressed.disabled = true; });
});

// A question may take a minute: what is being done is told meanwhile, and the answer is on the page.
async function ask(form, pressed) {
  const told = form.querySelector("[data-told]"), question = form.elements.message;
  const tell = (text) => { told.textContent = text; say(text); };
  pressed.disabled = true;
  tell("Looking…");
  try {
    const answer = await fetch(form.action, {
      method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "text/event-stream" },
    });
    if (!answer.ok) throw new Error((await answer.json()).detail);
    let text = "", failure = "";
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const events = (text + value).split(/\r?\n\r?\n/);
      text = events.pop();
      for (const one of events) {
        const kind = /^event: ?(.*)$/m.exec(one)?.[1], data = /^data: ?(.*)$/m.exec(one)?.[1];
        if (kind === "progress") tell(JSON.parse(data).text);
        if (kind === "error") failure = JSON.parse(data).detail;
      }
    }
    if (failure) throw new Error(failure);
    question.value = "";
    tell("Answered.");
    await refresh();
  } catch (problem) { tell(`Not answered: ${problem.message}`); }
  finally { delete form.dataset.sent; pressed.disabled = false; }
}
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.forms) {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
});
