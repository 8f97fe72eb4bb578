// The control plane over the console's own origin. A lost session leads to the login page.
import { setClock } from "./format.js";

let csrf = "";

export async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" }, credentials: "same-origin", cache: "no-store" });
  return read(answer);
}

export async function send(method, path, body) {
  const headers = { "content-type": "application/json", "x-csrf-token": csrf };
  return read(await fetch(path, { method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body) }));
}

export const useSession = (session) => { csrf = session.csrf; };

async function read(answer) {
  setClock(Number(answer.headers.get("vouchgate-now") || 0));
  if (answer.status === 401 && location.pathname !== "/login") location.replace("/login");
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail || "the request failed"), { remedy: body.remedy || "" });
  return body;
}
