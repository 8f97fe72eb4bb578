// How values read. Ages and countdowns are told by the control plane's clock.
let ahead = 0;
export const setClock = (serverNow) => { if (serverNow > 0) ahead = serverNow - Date.now(); };
export const now = () => Date.now() + ahead;

const count = new Intl.NumberFormat("en");
export const number = (value) => count.format(value);

export function duration(milliseconds) {
  const seconds = Math.max(0, Math.abs(milliseconds) / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export const remaining = (until) => (until > now() ? `${duration(until - now())} left` : "expired");
export const ago = (then) => (!then ? "never" : now() - then < 1500 ? "now" : `${duration(now() - then)} ago`);

export function clock(milliseconds) {
  const date = new Date(milliseconds);
  const two = (value) => String(value).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function shortDigest(text) {
  const value = text.includes(":") ? text.slice(text.indexOf(":") + 1) : text;
  const kind = text.includes(":") ? text.slice(0, text.indexOf(":") + 1) : "";
  return value.length > 12 ? `${kind}${value.slice(0, 12)}…` : text;
}

// spiffe://domain/kind/zone/name and vg://domain/kind/name
export function parts(name) {
  const split = name.includes("://") ? name.slice(name.indexOf("://") + 3).split("/").slice(1) : [name];
  const last = split[split.length - 1] || name;
  return { last: last.startsWith("sha256") ? shortDigest(last) : last, rest: split.slice(0, -1).join(" · ") };
}

export const TIERS = {
  verified: "observed by vouchgate on the bytes that answer",
  rederived: "recomputed by vouchgate from a copy",
  cooperative: "told by a tool that holds an identity",
  declared: "told by a person or a setting",
  inferred: "guessed from traffic or files",
};
