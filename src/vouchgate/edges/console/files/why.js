// The drawer that explains one decision: who, what, because of which evidence, on which path, how to fix it.
import { get } from "./api.js";
import { at, h } from "./dom.js";
import { TIERS, clock, shortDigest } from "./format.js";
import { command, prose, tier, verdict, vouch } from "./marks.js";

const STEPS = { passed: ["good", "✓"], stopped: ["bad", "✗"], "not-reached": ["idle", "·"], observed: ["warn", "!"] };

export async function explain(line) {
  const drawer = at("why");
  at("why-body").replaceChildren(frame(h("p", { class: "faint" }, "Asking the control plane…")));
  if (!drawer.open) drawer.showModal();
  const query = new URLSearchParams({ decision: line.decision_id || line.request_id || String(line.seq) });
  try {
    const answer = await get(`/api/v1/why?${query}`);
    at("why-body").replaceChildren(frame(...story(answer, line)));
  } catch (error) {
    at("why-body").replaceChildren(frame(h("p", { class: "problem" }, error.message), h("p", { class: "faint" }, error.remedy)));
  }
  drawer.querySelector("button").focus();
}

function frame(...children) {
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Close" }, "✕");
  close.addEventListener("click", () => at("why").close());
  return h("div", { class: "why" }, h("div", { class: "why-top" }, h("h2", {}, "Why"), close), ...children);
}

function story(answer, line) {
  const decision = answer.decision;
  const groups = (answer.groups || []).join(", ");
  return [
    h("p", { class: "verdict" }, verdict(decision.effect, decision.would_be), h("span", {}, prose(decision.reason))),
    part("Who", h("code", {}, decision.principal || "a caller without identity"),
      h("p", { class: "faint" }, [groups ? `in ${groups}` : "in no group", answer.credential].filter(Boolean).join(" · "))),
    part("What", h("p", {}, h("b", {}, decision.action), " on ", h("code", {}, decision.resource)),
      line.path ? h("p", {}, h("code", {}, `${line.method} ${line.path}`)) : null,
      h("p", { class: "faint" }, "model ", h("code", {}, answer.model_digest ? shortDigest(answer.model_digest) : "unknown"), " ", tier(answer.digest_tier), " ",
        TIERS[answer.digest_tier] || "nobody has said which bytes answer")),
    part("Because of", (answer.policies || []).map((policy) => h("p", {}, h("b", {}, policy.effect), " ", h("code", {}, policy.id), " ", prose(policy.summary),
      policy.source ? h("small", { class: "faint" }, ` ${policy.source}`) : null)),
      (decision.errors || []).map((text) => h("p", { class: "problem" }, text)),
      (answer.vouches || []).length ? h("ul", { class: "vouches" }, answer.vouches.map((entry) => vouch(entry, answer.endpoint))) : h("p", { class: "faint" }, "no evidence was needed or found")),
    (answer.path || []).length ? part("Path", h("ol", { class: "path" }, answer.path.map(step))) : null,
    (answer.fixes || []).length ? part("Fix", answer.fixes.map((fix) => h("div", { class: "fix" }, h("p", {}, prose(fix.text)), command(fix.command)))) : null,
    h("p", { class: "faint record" }, decision.id ? `decision ${shortDigest(decision.id)} · policy version ${decision.policy_version} · epoch ${decision.evidence_epoch} · ` : "refused before any policy was asked · ",
      (answer.log_index ?? -1) >= 0 ? `log entry ${answer.log_index}` : "not in the log", line.at ? ` · ${clock(line.at)}` : ""),
  ];
}

const part = (title, ...children) => h("section", { class: "part" }, h("h3", {}, title), ...children);

function step(entry) {
  const [tone, mark] = STEPS[entry.result] || STEPS.observed;
  return h("li", { class: tone }, h("span", { class: "mark", "aria-hidden": "true" }, mark), h("b", {}, entry.where), h("span", {}, prose(entry.what)),
    h("span", { class: "unseen" }, entry.result));
}
