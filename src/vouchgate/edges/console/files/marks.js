// The small parts that repeat: verdict, tier, vouch, command. A mark always stands beside a word, so colour is never alone.
import { h } from "./dom.js";
import { TIERS, duration, now, parts, remaining, shortDigest } from "./format.js";

export function verdict(effect, wouldBe) {
  if (effect === "deny") return h("span", { class: "pill bad" }, "✗ denied");
  if (wouldBe === "deny") return h("span", { class: "pill warn" }, "! would deny");
  return h("span", { class: "pill good" }, "✓ allowed");
}

export function tier(name) {
  if (!name) return h("span", { class: "tier none", title: "nobody has said which bytes answer" }, "unknown");
  return h("span", { class: `tier ${name in TIERS ? name : "none"}`, title: TIERS[name] || "" }, name);
}

export function who(name, authenticated = true) {
  if (!name) return h("span", { class: "name" }, h("b", {}, "nobody"), h("small", {}, "no identity"));
  const { last, rest } = parts(name);
  return h("span", { class: "name", title: name }, h("b", {}, last), h("small", {}, authenticated ? rest : `${rest} · only declared`));
}

export function digest(text, tierName) {
  return h("span", { class: "digest" }, h("code", { title: text }, text ? shortDigest(text) : "no digest"), tier(tierName));
}

const VOUCH_MARKS = { holds: ["good", "✓"], expiring: ["warn", "!"], inconclusive: ["warn", "!"] };

// Our sentences set user input in backticks; a full name in them is shortened and kept whole as its title.
export function prose(text) {
  return (text || "").split("`").map((piece, place) => {
    if (place % 2 === 0) return piece;
    const short = /^(spiffe|vg):\/\//.test(piece) ? parts(piece).last : piece;
    return h("code", { title: piece }, short);
  });
}

// `endpoint` is what the reader looks at already; another subject is named.
export function vouch(state, endpoint) {
  const [tone, mark] = VOUCH_MARKS[state.state] || ["bad", "✗"];
  const left = state.expires_at - now();
  const life = Math.max(1, state.expires_at - state.issued_at);
  const holds = state.state === "holds" || state.state === "expiring";
  const bar = h("span", { class: `life ${left < 10 * 60000 ? "warn" : ""}` }, h("i", {}));
  bar.firstChild.style.setProperty("width", `${Math.round(Math.min(1, Math.max(0.02, left / life)) * 100)}%`);
  return h("li", { class: `vouch ${tone}`, title: `${state.subject}\n${state.id}` },
    h("span", { class: "mark", "aria-hidden": "true" }, mark),
    h("b", {}, state.predicate),
    h("span", { class: "by" }, [state.issuer_role ? `by ${state.issuer_role}` : state.detail, other(state.subject, endpoint)].filter(Boolean).join(" · ")),
    tier(state.tier),
    holds
      ? h("span", { class: "until" }, h("time", { dataset: { until: String(state.expires_at) } }, remaining(state.expires_at)), bar)
      : h("span", { class: "until" }, state.state === "expired" ? `expired ${duration(left)} ago` : state.state));
}

const other = (subject, endpoint) => (subject === endpoint || subject.includes("/artifact/") ? "" : parts(subject).last);

export function command(text) {
  if (!text) return null;
  const button = h("button", { type: "button", class: "quiet copy", "aria-label": `Copy ${text}` }, "Copy");
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return h("span", { class: "command-line" }, h("code", {}, text), button);
}
