import { send } from "./api.js";
import { at } from "./dom.js";

at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("problem").textContent = "";
  try {
    await send("POST", "/api/v1/session", { code: at("code").value.trim() });
    location.replace("/");
  } catch (error) {
    at("problem").textContent = [error.message, error.remedy].filter(Boolean).join(": ");
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

addEventListener("hashchange", takePrinted);
takePrinted();
