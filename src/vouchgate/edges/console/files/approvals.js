// Requests that wait for a person: listed as they come, and looked at one by one before anybody agrees.
// A request is agreed to in a dialog of its own, so that nothing that comes meanwhile moves under the pointer.
import { get, send } from "./api.js";
import { at, h, show } from "./dom.js";
import { parts, remaining } from "./format.js";
import { prose } from "./marks.js";

const TONE = { pending: "warn", approved: "good", used: "idle", refused: "bad", expired: "idle" };

export async function refresh() {
  const open = (await get("/api/v1/approvals")).filter((one) => one.state === "pending" || one.state === "approved").reverse();
  at("approvals").hidden = !open.length;
  at("approvals-count").textContent = open.length ? String(open.length) : "";
  show(at("approvals-list"), open, () => open.map(row));
}

const left = (one) => h("time", { dataset: { until: String(one.expires_at) } }, remaining(one.expires_at));
const asked = (one) => `${parts(one.principal).last}${one.actors.length ? ` (through ${one.actors.map((name) => parts(name).last).join(", ")})` : ""}`;

function row(one) {
  return h("article", { class: `need ${TONE[one.state]}`, dataset: { approval: one.id } },
    h("span", { class: "mark", "aria-hidden": "true" }, one.state === "pending" ? "?" : "✓"),
    h("div", {},
      h("h3", {}, h("span", {}, `${asked(one)} asks to ${one.action} on ${parts(one.resource).last}${one.tool ? ` (${one.tool})` : ""}`), h("small", {}, left(one))),
      h("p", {}, one.state === "pending" ? `One person of each has to agree: ${one.groups.join(", ")}` : `Agreed to by ${one.approvers.join(", ")}; not used yet`),
      h("p", { class: "acts" }, h("button", { type: "button", onclick: () => open(one) }, one.mine ? "Look and decide" : "Look"))));
}

function open(one) {
  const said = h("p", { class: "problem", role: "alert" });
  const act = (path, body, word) => async (event) => {
    event.target.disabled = true;
    try {
      await send("POST", path, body);
      at("approve").close();
      await refresh();
    } catch (error) {
      said.textContent = `${word} failed: ${error.message}${error.remedy ? ` (${error.remedy})` : ""}`;
      event.target.disabled = false;
    }
  };
  at("approve-body").replaceChildren(
    h("h2", {}, `${asked(one)} asks to ${one.action}`),
    h("dl", { class: "facts" },
      [["Who", one.principal], ["Through", one.actors.join(", ")], ["On", one.resource], ["Tool", one.tool], ["Request", one.shown ? `${one.method} ${one.path}` : one.method], ["Digest", one.digest]]
        .filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("h3", {}, "What exactly"),
    one.shown ? h("pre", { class: "parameters", tabindex: "0", "aria-label": "Body of the request" }, one.body || "(no body)") : h("p", {}, "Only whoever may approve it sees what is asked for."),
    h("p", {}, prose(one.reason)),
    h("p", {}, "It counts once, for exactly this request, and lapses by itself: ", left(one)),
    said,
    h("p", { class: "acts" },
      one.mine ? h("button", { type: "button", class: "agree", onclick: act("/api/v1/approvals/give", { id: one.id }, "Approving") }, "Approve this once") : null,
      one.shown ? h("button", { type: "button", onclick: act("/api/v1/approvals/refuse", { id: one.id, reason: "refused in the console" }, "Refusing") }, "Refuse") : null,
      h("button", { type: "button", class: "quiet", onclick: () => at("approve").close() }, "Close")));
  at("approve").showModal();
}
