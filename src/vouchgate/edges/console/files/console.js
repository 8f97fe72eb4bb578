// The page: asks the control plane, draws what needs a decision first, then the evidence behind everything that answers.
import { get, send, useSession } from "./api.js";
import * as approvals from "./approvals.js";
import * as decisions from "./decisions.js";
import { at, h, show } from "./dom.js";
import { ago, duration, now, number, parts, remaining } from "./format.js";
import { command, digest, prose, vouch, who } from "./marks.js";
import * as pulse from "./pulse.js";

const STATUS_EVERY = 2000;
const LISTS_EVERY = 4000;
const NEED_MARK = { act: ["bad", "✗", "now"], soon: ["warn", "!", "soon"], note: ["idle", "·", "known"] };
const POINT_MARK = { current: ["good", "✓"], behind: ["warn", "!"], rejected: ["bad", "✗"], unreachable: ["bad", "✗"] };

// --- what needs a person

function needs(status) {
  const urgent = status.needs.filter((need) => need.severity !== "note").length;
  show(at("needs-count"), urgent, () => (urgent ? [String(urgent)] : []));
  at("needs-count").hidden = !urgent;
  show(at("needs-list"), status.needs, () => (status.needs.length ? status.needs.map(need) : h("p", { class: "calm" }, "✓ Nothing waits for you.")));
}

function need(entry) {
  const [tone, mark, word] = NEED_MARK[entry.severity] || NEED_MARK.note;
  return h("article", { class: `need ${tone}` },
    h("span", { class: "mark", "aria-hidden": "true" }, mark),
    h("div", {}, h("h3", {}, h("span", {}, prose(entry.title)), h("small", {}, word)), entry.detail ? h("p", {}, prose(entry.detail)) : null,
      entry.remedy ? h("p", { class: "remedy" }, prose(entry.remedy)) : null, command(entry.command)));
}

function facts(status) {
  at("domain").textContent = status.trust_domain;
  show(at("facts"), [status.epoch, status.policy_version, status.log_size, status.clock, status.version], () => [
    fact("Policy", `v${status.policy_version}`), fact("Epoch", number(status.epoch)), fact("Log", number(status.log_size)),
    fact("Clock", status.clock.state, status.clock.state === "sound" ? "" : "bad"), fact("Version", status.version),
  ].flat());
  const notices = [];
  if (status.solo) notices.push("Solo: one person may author and approve the same change.");
  if (!status.isolated) notices.push("The processes share one uid: they are not isolated from each other.");
  if (status.clock.state !== "sound") notices.push(`The clock is frozen: nothing is issued or renewed. ${status.clock.detail}`);
  show(at("notices"), notices, () => notices.map((text) => h("p", { class: "notice" }, `! ${text}`)));
}

const fact = (name, value, tone = "") => h("div", {}, h("dt", {}, name), h("dd", { class: tone }, value));

// --- endpoints

function endpoints(states) {
  const order = [...states].sort((one, other) => (one.verdict === other.verdict ? 0 : one.verdict === "refused" ? -1 : 1));
  show(at("endpoint-list"), states, () => (order.length ? order.map(endpoint) : h("p", { class: "empty" }, "No endpoint yet: `vouchgate wrap --upstream URL`.")));
}

function endpoint(state) {
  const served = state.verdict === "served";
  const { last } = parts(state.endpoint.id);
  const evidence = [...(state.vouches || []).map((entry) => vouch(entry, state.endpoint.id)), ...(state.missing || []).filter((gap) => gap.why === "absent").map(gapRow)];
  return h("article", { class: `card ${served ? "" : "refused"}` },
    h("div", { class: "card-top" }, h("h3", { title: state.endpoint.id }, last), h("span", { class: "zone" }, state.endpoint.zone),
      state.mode === "observe" ? h("span", { class: "pill dashed" }, "observe") : null,
      h("span", { class: `pill ${served ? "good" : "bad"}` }, served ? "✓ served" : "✗ refused")),
    served ? null : h("p", { class: "problem" }, prose(state.reason)),
    h("p", { class: "row" }, h("span", { class: "faint" }, "answers with"), digest(state.endpoint.model_digest || "", state.endpoint.digest_tier)),
    evidence.length ? h("ul", { class: "vouches" }, evidence) : h("p", { class: "faint" }, "no evidence yet"),
    served ? null : (state.missing || []).map((gap) => h("p", { class: "remedy" }, prose(gap.remedy))),
    h("p", { class: "counts" }, pair("callers", state.callers), pair("allowed", state.allowed), pair("denied", state.denied), state.would_deny ? pair("would deny", state.would_deny) : null,
      h("span", { class: "faint" }, "last call ", h("time", { dataset: { since: String(state.last_call_at || 0) } }, ago(state.last_call_at)))));
}

const gapRow = (gap) => h("li", { class: "vouch bad" }, h("span", { class: "mark", "aria-hidden": "true" }, "✗"), h("b", {}, gap.predicate), h("span", { class: "by" }, gap.remedy), h("span", {}), h("span", { class: "until" }, gap.why));
const pair = (name, value) => h("span", { class: value ? "" : "zero" }, h("b", {}, number(value || 0)), ` ${name}`);

// --- callers, points

// Callers on one page, by name; the command line lists all.
const SHOWN = 200;

function callers(states) {
  show(at("caller-rows"), states, () => (states.length ? [...states.map(caller), ...(states.length < SHOWN ? [] : [h("tr", {}, h("td", { colspan: 7, class: "empty" }, `The first ${SHOWN} by name. \`vouchgate identity list\` lists all.`))])] : h("tr", {}, h("td", { colspan: 7, class: "empty" }, "Nobody has called yet."))));
}

function caller(state) {
  const left = state.credential_until - now();
  const known = state.authenticated ? state.credential_kind : "declared only";
  return h("tr", {},
    h("td", {}, who(state.principal, state.authenticated)),
    h("td", {}, h("span", { class: "name" }, h("b", { class: state.authenticated ? "" : "warn-text" }, known), h("small", {}, left > 0 ? h("time", { dataset: { until: String(state.credential_until) } }, remaining(state.credential_until)) : (state.groups || []).join(", ")))),
    h("td", {}, h("time", { dataset: { since: String(state.last_seen || 0) } }, ago(state.last_seen))),
    ["allowed", "denied", "would_deny"].map((name) => h("td", { class: state[name] ? "number" : "number zero" }, number(state[name] || 0))),
    h("td", {}, state.revoked ? h("span", { class: "pill bad" }, "✗ revoked") : h("span", { class: "pill idle" }, "standing")));
}

function points(status) {
  const beat = Math.floor(now() / 2000);
  show(at("point-list"), [status.points, status.zones, status.processes, status.witness, beat], () => [
    h("ul", { class: "lines", "aria-label": "Enforcement points" }, status.points.map((point) => {
      const [tone, mark] = POINT_MARK[point.state] || POINT_MARK.unreachable;
      const lease = point.lease_until - now();
      return line(tone, mark, point.id, `${point.state} at epoch ${point.epoch}`, [point.entries ? `${point.entries} grants` : "", lease > 0 ? `lease ${duration(lease)}` : "", point.detail].filter(Boolean).join(" · "));
    })),
    h("ul", { class: "lines", "aria-label": "Zones" }, status.zones.map((state) => line(state.zone.mode === "observe" ? "warn" : "good", state.zone.mode === "observe" ? "!" : "✓", state.zone.name, state.zone.mode,
      [`lease ${state.zone.lease_seconds} s`, state.zone.observe_until > now() ? `observe ends in ${duration(state.zone.observe_until - now())}` : "", state.would_deny ? `${state.would_deny} would be refused` : ""].filter(Boolean).join(" · ")))),
    h("ul", { class: "lines", "aria-label": "Processes and log" },
      status.processes.filter((process) => process.state !== "running").map((process) => line("bad", "✗", process.name, process.state, process.detail)),
      line("good", "✓", "processes", `${status.processes.filter((process) => process.state === "running").length} of ${status.processes.length} running`, status.isolated ? "each under its own uid" : "sharing one uid"),
      line(status.witness.kind === "outside" ? "good" : "idle", status.witness.kind === "outside" ? "✓" : "·", "log", `${number(status.log_size)} entries, cosigned ${ago(status.witness.cosigned_at)}`, status.witness.statement)),
  ]);
}

const line = (tone, mark, name, told, detail) => h("li", { class: tone }, h("span", { class: "mark", "aria-hidden": "true" }, mark), h("b", {}, name), h("span", {}, told), h("small", {}, detail));

// --- going

async function every(milliseconds, work) {
  for (;;) {
    if (!document.hidden) {
      try {
        await work();
        document.body.classList.remove("stale");
      } catch {
        document.body.classList.add("stale");
      }
    }
    await new Promise((done) => setTimeout(done, milliseconds));
  }
}

async function refreshStatus() {
  const status = await get("/api/v1/status");
  facts(status);
  needs(status);
  points(status);
  pulse.totals(status);
}

async function refreshLists() {
  const [endpointStates, callerStates] = await Promise.all([get("/api/v1/endpoints"), get(`/api/v1/callers?limit=${SHOWN}`)]);
  endpoints(endpointStates);
  pulse.endpoints(endpointStates);
  callers(callerStates);
}

// Ages and countdowns move every second without touching anything else.
function tick() {
  for (const time of document.querySelectorAll("time[data-until]")) time.textContent = remaining(Number(time.dataset.until));
  for (const time of document.querySelectorAll("time[data-since]")) time.textContent = ago(Number(time.dataset.since));
}

function theme() {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  at("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  });
}

theme();
useSession(await get("/api/v1/session"));
at("leave").addEventListener("click", async () => { await send("DELETE", "/api/v1/session"); location.replace("/login"); });
at("why").addEventListener("click", (event) => { if (event.target === at("why")) at("why").close(); });
pulse.start();
setInterval(tick, 1000);
decisions.start();
every(STATUS_EVERY, refreshStatus);
every(LISTS_EVERY, refreshLists);
every(STATUS_EVERY, approvals.refresh);
