// The adjudication page. What a person answers is shown at once, kept in this browser until the server has confirmed it,
// and sent again until then: neither a reload nor a dead server loses an answer.
"use strict";
(() => {
  const root = document.documentElement;
  const kept = {
    get(key) { try { return localStorage.getItem(key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(key, value); } catch { /* full or forbidden: the request is under way */ } },
    drop(key) { try { localStorage.removeItem(key); } catch { /* see above */ } },
  };
  const theme = kept.get("adjudication-theme");
  if (theme) root.dataset.theme = theme; // before the page is drawn

  const find = (selector) => document.querySelector(selector);
  let item = null; // the item on this page, where there is one
  let busy = null; // the sending that is under way
  let again = 0; // the timer of the next attempt
  let typing = 0; // the timer of the note

  function say(text, bad = false) {
    const status = find("#status");
    if (!status) return;
    status.textContent = text;
    status.classList.toggle("bad", bad);
  }

  async function send(method, path, body) {
    return fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json", "X-Form": document.body.dataset.form },
      body: body === undefined ? undefined : JSON.stringify(body),
      keepalive: method === "POST" && JSON.stringify(body).length < 60000, // a page that is left still sends it
      signal: AbortSignal.timeout(10000),
    });
  }

  // -- answers and notes ------------------------------------------------------------------------------------------

  const slot = (place) => `${item.keep}/${place}`;

  function pending(place) {
    try { return JSON.parse(kept.get(slot(place))); } catch { return null; }
  }

  function hold(place, values) {
    const before = pending(place) || { values: {} };
    const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const next = { values: { ...before.values, ...values }, change: id };
    kept.set(slot(place), JSON.stringify(next));
    item.unsaved[place] = next; // where the browser keeps nothing
    return next;
  }

  const waiting = (place) => pending(place) || item.unsaved[place] || null;

  function release(place, change) {
    const now = waiting(place);
    if (now && now.change !== change) return; // something newer came meanwhile
    kept.drop(slot(place));
    delete item.unsaved[place];
  }

  function change(values) {
    hold(item.facts.place, values);
    show();
    flush();
  }

  function flush() {
    clearTimeout(again);
    if (!busy) busy = sendAll().finally(() => { busy = null; });
    return busy;
  }

  async function sendAll() {
    for (;;) {
      const place = item.facts.place;
      const mine = waiting(place);
      if (!mine) return sendOthers();
      say("saving …");
      let answer, facts;
      try {
        answer = await send("POST", `/api/item/${place}`, { version: item.facts.version, change: mine.change, ...mine.values });
        facts = await answer.json();
      } catch {
        return later();
      }
      if (answer.status === 409) {
        meet(facts, mine);
      } else if (!answer.ok) {
        say(`not saved: ${facts.error}`, true);
        return false;
      } else {
        item.facts = facts;
        release(place, mine.change);
        show();
        if (!waiting(place)) say("saved");
      }
    }
  }

  function later() {
    say("not saved: no answer from the server; kept here, trying again", true);
    again = setTimeout(flush, 1500);
    return false;
  }

  // Another window of the same person was faster. Its answers hold; of two notes both are kept.
  function meet(facts, mine) {
    const note = mine.values.note;
    const both = note !== undefined && facts.note && facts.note !== note && facts.note !== item.facts.note;
    item.facts = facts;
    release(facts.place, mine.change);
    if (note !== undefined) {
      const text = both ? `${facts.note}\n${note}` : note;
      hold(facts.place, { note: text });
      find("#note").value = text;
    }
    show();
    say("changed in another window: shown is what is stored", true);
  }

  // What was left unsent on other items, as by a browser that was closed without a server.
  async function sendOthers() {
    const prefix = `${item.keep}/`;
    const names = [];
    try {
      for (let i = 0; i < localStorage.length; i++) names.push(localStorage.key(i));
    } catch { return true; }
    for (const name of names.filter((key) => key.startsWith(prefix))) {
      const place = Number(name.slice(prefix.length));
      const mine = waiting(place);
      if (!mine || place === item.facts.place) continue;
      try {
        const now = await send("GET", `/api/item/${place}`);
        if (now.ok) {
          const { version } = await now.json();
          const answer = await send("POST", `/api/item/${place}`, { version, change: mine.change, ...mine.values });
          if (answer.ok) count(await answer.json());
          if (answer.status === 409) continue;
        }
        release(place, mine.change);
      } catch {
        return later();
      }
    }
    return true;
  }

  function typed() {
    clearTimeout(typing);
    const note = find("#note");
    if (note && note.value !== { ...item.facts, ...(waiting(item.facts.place) || {}).values }.note) change({ note: note.value });
  }

  function count(facts) {
    find("#progress").value = facts.done;
    find("#count").textContent = `${facts.done} of ${facts.total} decided`;
  }

  function show() {
    const now = { ...item.facts, ...(waiting(item.facts.place) || {}).values };
    for (const button of document.querySelectorAll("[data-name]")) {
      button.setAttribute("aria-pressed", String(String(now[button.dataset.name]) === button.dataset.value));
    }
    const note = find("#note");
    if (document.activeElement !== note && note.value !== now.note) note.value = now.note;
    count(item.facts);
  }

  async function undo() {
    typed();
    if (!(await flush())) return;
    let facts;
    try {
      const answer = await send("POST", "/api/undo", {});
      facts = await answer.json();
      if (!answer.ok) return say(facts.error, true);
    } catch {
      return say("no answer from the server", true);
    }
    if (facts === null) return say("nothing to undo");
    if (facts.place !== item.facts.place) {
      sessionStorage.setItem("adjudication-said", "undone here");
      location.href = `/item/${facts.place}`;
      return;
    }
    item.facts = facts;
    show();
    say("undone");
  }

  // -- moving -----------------------------------------------------------------------------------------------------

  async function go(path) {
    if (path === null) return;
    if (item) {
      typed();
      if (!(await flush())) return; // says why
    }
    location.href = path;
  }

  const panel = (name) => find(`#${name} .text`);
  const current = () => (document.activeElement && document.activeElement.closest(".panel")) || find("#reasoning");

  function enlarge() {
    const panels = find("#panels"), part = current();
    panels.dataset.wide = panels.dataset.wide === part.id ? "" : part.id;
    panel(part.id).focus();
  }

  function raw() {
    for (const part of document.querySelectorAll(".panel")) {
      const text = part.querySelector(".raw");
      text.hidden = !text.hidden;
      part.querySelector(".laid-out").hidden = !text.hidden;
    }
  }

  function switchTheme() {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    kept.set("adjudication-theme", root.dataset.theme);
  }

  function help() {
    const dialog = find("#help");
    if (dialog.open) dialog.close(); else dialog.showModal();
  }

  const onEvery = { t: switchTheme, "?": help, l: () => go("/items") };
  const onItem = {
    s: () => change({ sound: true }),
    f: () => change({ sound: false }),
    a: () => change({ aligned: true }),
    m: () => change({ aligned: false }),
    e: () => find("#note").focus(),
    u: undo,
    j: () => go(item.after === null ? null : `/item/${item.after}`),
    k: () => go(item.before === null ? null : `/item/${item.before}`),
    Enter: () => go(`/?from=${item.facts.place}`),
    g: () => find("#number input").select(),
    r: raw,
    w: () => find("#panels").classList.toggle("wrap"),
    z: enlarge,
    1: () => panel("problem").focus(),
    2: () => panel("reasoning").focus(),
    3: () => panel("program").focus(),
  };
  onItem.ArrowRight = onItem.j;
  onItem.ArrowLeft = onItem.k;

  function step(by) {
    const links = [...document.querySelectorAll("tbody a")];
    const now = links.indexOf(document.activeElement);
    const next = links[now < 0 ? 0 : Math.min(links.length - 1, Math.max(0, now + by))];
    if (next) next.focus();
  }

  const follow = (selector) => { const link = find(selector); if (link) location.href = link.href; };
  const onList = { j: () => step(1), k: () => step(-1), "[": () => follow("[rel=prev]"), "]": () => follow("[rel=next]") };
  onList.ArrowDown = onList.j;
  onList.ArrowUp = onList.k;
  for (const tab of [1, 2, 3, 4]) onList[tab] = () => follow(`[data-tab="${tab}"]`);

  function pressed(event) {
    const target = event.target;
    const writing = target.matches("textarea, input");
    if (writing) {
      if (event.key === "Escape") { typed(); target.blur(); if (item) panel("reasoning").focus(); }
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); onItem.Enter(); }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
    if (event.key === "Enter" && target.matches("a, button")) return; // it does what it says
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act = (item ? onItem : document.body.classList.contains("list") ? onList : {})[key] || (find("#help") && onEvery[key]);
    if (!act || event.repeat) return;
    event.preventDefault();
    act();
  }

  function clicked(event) {
    const button = event.target.closest("[data-key]");
    if (!button) return;
    event.preventDefault();
    (onEvery[button.dataset.key] || onItem[button.dataset.key])();
    if (item && button.matches("footer button")) panel("reasoning").focus(); // so that the keys go on
  }

  function openItem() {
    const given = JSON.parse(find("#facts").textContent);
    item = { ...given, unsaved: {} };
    const note = find("#note");
    note.value = item.facts.note;
    show();
    note.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(typed, 400); });
    note.addEventListener("blur", typed);
    find("#number").addEventListener("submit", (event) => {
      event.preventDefault();
      go(`/number?of=${encodeURIComponent(find("#number input").value)}`);
    });
    addEventListener("pagehide", typed);
    addEventListener("online", flush);
    panel("reasoning").focus({ preventScroll: true });
    flush();
    const said = sessionStorage.getItem("adjudication-said");
    if (said) say(said);
    sessionStorage.removeItem("adjudication-said");
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("keydown", pressed);
    document.addEventListener("click", clicked);
    if (find("#facts")) openItem();
    root.dataset.ready = "yes";
  });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }); // out of the browser's memory
})();
