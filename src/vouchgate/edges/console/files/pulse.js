// The last minute of traffic as bars, beside the totals.
import { at, h, svg } from "./dom.js";
import { now, number } from "./format.js";

const SECONDS = 60;
let buckets = Array.from({ length: SECONDS }, () => ({ allow: 0, deny: 0, "would-deny": 0 }));
let status = null;
let served = "";
let seeded = false;

// The page that was loaded first tells about the minute before the stream began.
export function before(lines) {
  for (const { at: then, tone } of lines) {
    const place = SECONDS - 1 - Math.floor((now() - then) / 1000);
    if (place >= 0 && place < SECONDS) buckets[place][tone] += 1;
  }
  seeded = true;
  draw();
}

export const isSeeded = () => seeded;
export const saw = (tone) => { buckets[SECONDS - 1][tone] += 1; };

export function start() {
  setInterval(() => { buckets = [...buckets.slice(1), { allow: 0, deny: 0, "would-deny": 0 }]; draw(); }, 1000);
}

export function totals(next) { status = next; draw(); }

export function endpoints(states) {
  const good = states.filter((state) => state.verdict === "served").length;
  served = `${good} of ${states.length}`;
  draw();
}

function draw() {
  if (!status) return;
  const current = status.points.filter((point) => point.state === "current").length;
  const minute = buckets.reduce((sum, bucket) => sum + bucket.allow + bucket.deny + bucket["would-deny"], 0);
  at("pulse").replaceChildren(
    figure("Allowed", number(status.allowed), "good"),
    figure("Denied", number(status.denied), status.denied ? "bad" : ""),
    figure("Would deny", number(status.would_deny), status.would_deny ? "warn" : "", "calls let through in observe that enforcing refuses"),
    figure("Endpoints served", served || "…", ""),
    figure("Points current", `${current} of ${status.points.length}`, current === status.points.length ? "" : "bad"),
    h("div", { class: "figure wide" }, h("span", { class: "label" }, `Last minute · ${number(minute)} calls`), bars()));
}

const figure = (label, value, tone, title) => h("div", { class: `figure ${tone}`, title }, h("span", { class: "label" }, label), h("b", {}, value));

function bars() {
  const highest = Math.max(4, ...buckets.map((bucket) => bucket.allow + bucket.deny + bucket["would-deny"]));
  const drawn = buckets.flatMap((bucket, place) => {
    let below = 0;
    return ["allow", "would-deny", "deny"].filter((tone) => bucket[tone]).map((tone) => {
      const height = Math.max(1, (bucket[tone] / highest) * 34);
      below += height;
      return svg("rect", { x: place * 5, y: 36 - below, width: 3.6, height, rx: 0.8, class: tone });
    });
  });
  return svg("svg", { viewBox: `0 0 ${SECONDS * 5} 36`, preserveAspectRatio: "none", class: "bars", role: "img", "aria-label": "Calls in each of the last 60 seconds" },
    svg("line", { x1: 0, y1: 35.5, x2: SECONDS * 5, y2: 35.5, class: "axis" }), ...drawn);
}
