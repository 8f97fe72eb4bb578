// Logs in with a provider in a real browser, and tries what another site could; prints what it saw as JSON. Run by test_console_login.py.
// node login.mjs <folder with node_modules> <chromium> <console> <provider>
import { createRequire } from "node:module";

const [, , modules, executablePath, origin, provider] = process.argv;
const { chromium } = createRequire(modules + "/")("playwright-core");
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const seen = { errors: [] };
const context = await browser.newContext();
const page = await context.newPage();
page.setDefaultTimeout(10000);
page.on("pageerror", (error) => seen.errors.push(String(error)));

await page.goto(origin + "/login");
await page.waitForSelector("#providers button");
seen.button = await page.textContent("#providers button");
seen.markup = await page.locator("#providers b").count();
await page.click("#providers button");
await page.waitForURL(origin + "/");
await page.waitForSelector("#leave");
seen.cookies = (await context.cookies()).map(({ name, httpOnly, sameSite, path }) => ({ name, httpOnly, sameSite, path }));
seen.session = await page.evaluate(async () => (await (await fetch("/api/v1/session")).json()).principal);
seen.scripts = await page.evaluate(() => document.cookie);

// Another site sends the browser, which has no login under way, an answer of its own.
const victim = await browser.newContext();
const other = await victim.newPage();
other.setDefaultTimeout(10000);
await other.goto(provider + "/attack");
await other.waitForURL(origin + "/login");
await other.waitForFunction(() => document.getElementById("problem").textContent.length > 0);
seen.attack = await other.textContent("#problem");
seen.address = other.url();
seen.victim = (await victim.cookies()).map(({ name }) => name);

// An error of the provider is told as text.
await other.goto(provider + "/refuse");
await other.waitForFunction(() => document.getElementById("problem").textContent.length > 0);
seen.refused = await other.textContent("#problem");
console.log(JSON.stringify(seen));
await browser.close();
