// Drives the console in a real browser: logs in, looks, clicks, and prints what it saw as JSON. Run by test_console_browser.py.
// node drive.mjs <folder with node_modules> <chromium> <login address> <folder for screenshots or "">
import { createRequire } from "node:module";

const [, , modules, executablePath, address, shots] = process.argv;
const require = createRequire(modules + "/");
const { chromium } = require("playwright-core");
const axe = (() => { try { return require.resolve("axe-core/axe.min.js"); } catch { return ""; } })();
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const seen = { errors: [], outside: [], violations: {}, dialogs: 0 };
const origin = new URL(address).origin;

async function open(scheme, width, height) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, bypassCSP: false });
  const page = await context.newPage();
  page.setDefaultTimeout(10000);
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") seen.errors.push(message.text()); });
  page.on("request", (request) => { if (new URL(request.url()).origin !== origin && !request.url().startsWith("data:")) seen.outside.push(request.url()); });
  page.on("dialog", (dialog) => { seen.dialogs += 1; dialog.dismiss(); });
  return page;
}

async function check(page, name) {
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: name.includes("full") });
  if (!axe) return;
  // The page's policy forbids scripts from elsewhere, so axe runs in the browser's isolated world of the debugging protocol.
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send("Page.getFrameTree");
  const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id, worldName: "axe" });
  const source = (await import("node:fs")).readFileSync(axe, "utf8");
  await session.send("Runtime.evaluate", { expression: source, contextId: executionContextId });
  const { result } = await session.send("Runtime.evaluate", {
    expression: "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']}).then(r => JSON.stringify(r.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + ' ' + (n.any[0]?.message || '')).join(' | '))))",
    contextId: executionContextId, awaitPromise: true, returnByValue: true,
  });
  seen.violations[name] = JSON.parse(result.value ?? "[\"axe did not run\"]");
}

const page = await open("dark", 1440, 950);
const login = new URL(address);
await page.goto(login.origin + "/login");
await page.waitForSelector("#code");
await check(page, "login");
await page.fill("#code", "wrong code");
await page.click("button[type=submit]");
await page.waitForFunction(() => document.getElementById("problem").textContent.length > 0);
seen.wrongCode = await page.textContent("#problem");
seen.errors = seen.errors.filter((text) => !text.includes("403"));
await page.goto(address);
await page.waitForSelector("#decision-rows tr");
await page.waitForSelector(".card");
await page.waitForSelector("#caller-rows tr");
await page.waitForFunction(() => document.getElementById("link").textContent === "live");
seen.address = page.url();
seen.rows = await page.locator("#decision-rows tr").count();
await page.waitForTimeout(1300);
await check(page, "dark");
await check(page, "dark-full");
seen.firstHeading = (await page.locator("main h2").first().textContent()).trim();
seen.firstNeed = (await page.locator(".need h3").first().textContent()).trim();
seen.text = await page.innerText("body");
seen.markup = await page.evaluate(() => document.querySelectorAll("main script, main img, main iframe, main b b, main marquee").length);

await page.click('[data-effect="deny"]');
seen.denied = await page.locator("#decision-rows tr").count();
await page.fill("#find", "no such caller");
seen.none = await page.locator("#decisions-empty").innerText();
await page.fill("#find", "");
await page.locator("#decision-rows .why-button").first().focus();
await page.keyboard.press("Enter");
await page.waitForSelector("dialog[open] .part");
await page.waitForTimeout(200);
seen.why = await page.innerText("#why");
await check(page, "why");
await page.keyboard.press("Escape");
seen.closed = (await page.locator("dialog[open]").count()) === 0;
await page.click('[data-approval="00ab"] button');
await page.waitForSelector("#approve[open] .parameters");
seen.approval = await page.innerText("#approve");
await check(page, "approve");
await page.click("#approve .agree");
await page.waitForFunction(() => !document.getElementById("approve").open);
seen.agreed = (await page.locator("#approve[open]").count()) === 0;
await page.click('[data-effect=""]');
console.error("ready for a call");
await page.waitForSelector("#decision-rows tr.fresh", { timeout: 15000 });
seen.live = await page.locator("#decision-rows tr").first().innerText();
await page.click("#theme");
await page.waitForTimeout(300);
await check(page, "light");
seen.trusted = await page.evaluate(() => { try { document.body.innerHTML = "<b>x</b>"; return "allowed"; } catch { return "refused"; } });
seen.errors = seen.errors.filter((text) => !text.includes("TrustedHTML"));
await page.setViewportSize({ width: 420, height: 900 });
await page.waitForTimeout(300);
await check(page, "narrow");
seen.wide = await page.evaluate(() => [...document.querySelectorAll('main *, header *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll')).slice(0, 5).map((e) => e.outerHTML.slice(0, 120)));
seen.sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
await page.setViewportSize({ width: 1440, height: 950 });
const before = [...seen.errors];
await page.click("#leave");
await page.waitForURL("**/login");
seen.left = true;
seen.errors = before; // a question that was under way is answered 401
await browser.close();
console.log(JSON.stringify(seen));
