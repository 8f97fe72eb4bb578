import { get, send } from "./api.js";
import { at, h } from "./dom.js";

const tell = (error) => { at("problem").textContent = [error.message, error.remedy].filter(Boolean).join(": "); };

at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("problem").textContent = "";
  try {
    await send("POST", "/api/v1/session", { code: at("code").value.trim() });
    location.replace("/");
  } catch (error) {
    tell(error);
    at("code").select();
  }
});

// The printed address carries the code in its fragment, which no server sees; it is taken out of the history at once.
function takePrinted() {
  const printed = location.hash.slice(1).replace(/^code=/, "");
  if (!printed) return at("code").focus();
  history.replaceState(null, "", "/login");
  at("code").value = printed;
  return at("login").requestSubmit();
}

// A provider's answer is taken out of the history at once, and handed in from this page: only then does the browser send our cookie with it.
async function takeAnswer() {
  const said = new URLSearchParams(location.search);
  history.replaceState(null, "", "/login");
  const answer = {};
  for (const name of ["state", "code", "iss", "error"]) {
    if (said.getAll(name).length > 1) return tell(new Error("the provider's answer says something twice"));
    if (said.has(name)) answer[name] = said.get(name);
  }
  if (!answer.state) return undefined;
  try {
    await send("POST", "/api/v1/login/finish", answer);
    location.replace("/");
  } catch (error) {
    tell(error);
  }
  return undefined;
}

async function begin(provider) {
  at("problem").textContent = "";
  try {
    const begun = await send("POST", "/api/v1/login/begin", { provider });
    // an address of the provider's configured origin; anything that is not an address of the web is not followed
    if (/^https?:\/\//.test(begun.url)) location.assign(begun.url);
  } catch (error) {
    tell(error);
  }
}

async function showProviders() {
  const providers = await get("/api/v1/login");
  at("providers").replaceChildren(...providers.map((one) => h("button", { type: "button", class: "primary", dataset: { provider: one.name }, onclick: () => begin(one.name) }, `Log in with ${one.title}`)));
  at("providers").hidden = providers.length === 0;
}

addEventListener("hashchange", takePrinted);
showProviders().catch(tell);
if (location.pathname === "/login/callback") takeAnswer();
else takePrinted();
