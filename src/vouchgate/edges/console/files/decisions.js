// Live decisions: the newest page, then server-sent events; a gap in the log index loads the page again.
import { get } from "./api.js";
import { at, h } from "./dom.js";
import { clock, parts } from "./format.js";
import { prose, verdict, who } from "./marks.js";
import { before, isSeeded, saw } from "./pulse.js";
import { explain } from "./why.js";

const MAX_ROWS = 200; // rows kept in the page; older ones are read with `vouchgate audit show`
const DRAW_EVERY = 150; // milliseconds between drawings, so that a busy gateway does not busy the browser

let lines = [];
let waiting = [];
let effect = "";
let text = "";
let paused = false;
let drawing = 0;
let announced = 0;

const wouldDeny = (line) => line.effect === "allow" && line.would_be === "deny";
const tone = (line) => (line.effect === "deny" ? "deny" : wouldDeny(line) ? "would-deny" : "allow");

function matches(line) {
  if (effect && (effect === "allow" ? line.effect !== "allow" : tone(line) !== effect)) return false;
  if (!text) return true;
  return [line.principal, line.resource, line.path, line.reason, line.request_id].some((value) => (value || "").toLowerCase().includes(text));
}

async function load() {
  const page = await get("/api/v1/decisions?limit=100");
  lines = page.decisions;
  if (!isSeeded()) before(lines.map((line) => ({ at: line.at, tone: tone(line) })));
  draw();
}

export function start() {
  for (const button of document.querySelectorAll("[data-effect]")) button.addEventListener("click", () => choose(button));
  at("find").addEventListener("input", (event) => { text = event.target.value.trim().toLowerCase(); draw(); });
  at("pause").addEventListener("click", () => pause(!paused));
  connect();
}

function choose(button) {
  effect = button.dataset.effect;
  for (const other of document.querySelectorAll("[data-effect]")) other.setAttribute("aria-pressed", String(other === button));
  draw();
}

function pause(value) {
  paused = value;
  at("pause").setAttribute("aria-pressed", String(paused));
  at("pause").textContent = paused ? "Go on" : "Pause";
  if (!paused) schedule();
}

function connect() {
  const source = new EventSource("/api/v1/decisions/live");
  source.addEventListener("open", () => { state("live", "live"); load().catch(() => state("lost", "not readable")); });
  source.addEventListener("decision", (event) => {
    const line = JSON.parse(event.data);
    saw(tone(line));
    waiting.push(line);
    if (waiting.length > MAX_ROWS) waiting.splice(0, waiting.length - MAX_ROWS);
    if (!paused) schedule();
  });
  source.addEventListener("end", () => { source.close(); state("lost", "reconnecting"); setTimeout(connect, 2000); });
  source.addEventListener("error", () => {
    state("lost", "reconnecting");
    if (source.readyState === EventSource.CLOSED) { get("/api/v1/session").catch(() => {}); setTimeout(connect, 2000); }
  });
}

function state(name, word) {
  at("link").className = `link ${name}`;
  at("link").textContent = word;
}

function schedule() {
  if (!drawing) drawing = setTimeout(() => { drawing = 0; take(); }, DRAW_EVERY);
}

function take() {
  const known = new Set(lines.map((line) => line.seq));
  const fresh = waiting.filter((line) => !known.has(line.seq));
  waiting = [];
  lines = [...fresh.reverse(), ...lines].sort((one, other) => other.seq - one.seq).slice(0, MAX_ROWS);
  draw(new Set(fresh.map((line) => line.seq)));
  announce(fresh);
}

// At most one sentence in five seconds, and only for what was refused.
function announce(fresh) {
  const refused = fresh.filter((line) => line.effect === "deny").length;
  if (refused && Date.now() - announced > 5000) {
    announced = Date.now();
    at("decisions-said").textContent = refused === 1 ? "one call was denied" : `${refused} calls were denied`;
  }
}

function draw(fresh = new Set()) {
  const shown = lines.filter(matches);
  const focused = document.activeElement?.closest?.("tr")?.dataset.seq;
  at("decision-rows").replaceChildren(...shown.map((line) => row(line, fresh.has(line.seq))));
  if (focused) at("decision-rows").querySelector(`tr[data-seq="${CSS.escape(focused)}"] button`)?.focus();
  at("decisions-empty").hidden = shown.length > 0;
  at("decisions-empty").textContent = lines.length ? "No decision matches the filter." : "No call yet. The next one appears here.";
}

// Evidence that two persons agreed to go without; it is said wherever a decision stands.
function waived(line) {
  const count = (line.waivers || []).length;
  return count ? h("small", { class: "waived", title: line.waivers.join("\n") }, count === 1 ? "! rests on a waiver" : `! rests on ${count} waivers`) : null;
}

function row(line, fresh) {
  const open = h("button", { type: "button", class: "why-button", "aria-label": `Why: ${parts(line.principal || "nobody").last} ${line.action} ${parts(line.resource).last}` },
    verdict(line.effect, line.would_be));
  const made = h("tr", { class: `${tone(line)}${fresh ? " fresh" : ""}`, dataset: { seq: String(line.seq) } },
    h("td", { class: "time" }, clock(line.at)),
    h("td", {}, open),
    h("td", {}, who(line.principal, line.authenticated)),
    h("td", {}, h("span", { class: "name", title: line.resource }, h("b", {}, parts(line.resource).last || "none"), h("small", {}, line.action))),
    h("td", { class: "request" }, h("code", { title: line.path }, `${line.method} ${line.path}`), line.reason && tone(line) !== "allow" ? h("small", { title: line.reason }, prose(line.reason)) : null, waived(line)),
    h("td", { class: "number" }, line.duration_ms ? line.duration_ms.toFixed(1) : ""));
  made.addEventListener("click", () => explain(line));
  return made;
}
