// Starts npm's oauth2-mock-server and prints its issuer; each line on standard input is a JSON object with what the next tokens shall say.
// node oauth2_mock.mjs <folder with node_modules>
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import readline from "node:readline";

const require = createRequire(process.argv[2] + "/");
const { OAuth2Server } = await import(pathToFileURL(require.resolve("oauth2-mock-server")));
const server = new OAuth2Server();
await server.issuer.keys.generate("RS256");
let said = {};
server.service.on("beforeTokenSigning", (token) => Object.assign(token.payload, said.claims ?? {}));
server.service.on("beforeUserinfo", (answer) => { if (said.userinfo) answer.body = said.userinfo; });
await server.start(0, "127.0.0.1");
server.issuer.url = `http://127.0.0.1:${server.address().port}`;
console.log(server.issuer.url);
for await (const line of readline.createInterface({ input: process.stdin })) {
  said = JSON.parse(line);
  if (said.rotate) await server.issuer.keys.generate(said.rotate);
  console.log("ready");
}
await server.stop();
