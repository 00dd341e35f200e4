// The page in headless Chromium: `node page_in_browser.js SCENARIO`, with the settings of the run as JSON on
// standard input: {"chromium", "url", "links", "text"}. Prints what was observed as JSON. A violation of the
// Content-Security-Policy, an error of the script or a request to another host ends every scenario with an error.
"use strict";

const path = require("node:path");
const { chromium } = require(path.join(process.env.CLAWD_TEST_NODE_MODULES, "playwright-core"));

const problems = [];

async function open(browser, given, options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-GB", ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(`script: ${error.message}`));
  page.on("console", (message) => {
    // Chromium reports every refused request here; that they are refused is what some scenarios observe.
    const refused = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !refused) problems.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(given.url)) problems.push(`request to ${request.url()}`);
  });
  return page;
}

async function logIn(page, link) {
  await page.goto(link);
  await page.waitForSelector("#composer");
}

async function answered(page, number = 1) {
  await page.waitForFunction(
    (wanted) =>
      document.querySelectorAll(".turn.bot").length === wanted && !document.querySelector("[aria-busy]"),
    number,
  );
  return page.locator(".turn.bot .answer").last().innerText();
}

async function say(page, text, number = 1) {
  await page.fill("#question", text);
  await page.press("#question", "Enter");
  return answered(page, number);
}

const titles = (page) => page.locator("#conversations a").allInnerTexts();

const scenarios = {
  async login(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    const address = page.url();
    const cookies = await page.context().cookies();
    const seen = await page.evaluate(() => document.cookie);
    await page.click("#log-out");
    await page.waitForSelector("body.outside");
    await page.goto(given.links[0]);
    await page.waitForFunction(() => document.getElementById("login").textContent.includes("already used"));
    return { address, cookie: cookies[0], seen };
  },

  async elsewhere(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    await page.goto("about:blank");
    await page.setContent(`<a href="${given.url}/console/">to the bot</a>`);
    await page.click("a");
    await page.waitForSelector("#composer");
    return { user: await page.locator(".user").innerText() };
  },

  async change(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    const first = await page.locator(".user").innerText();
    await page.goto(given.links[1]);
    await page.waitForFunction((before) => document.querySelector(".user")?.textContent !== before, first);
    return { first, second: await page.locator(".user").innerText(), address: page.url() };
  },

  async chat(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    const focused = await page.evaluate(() => document.activeElement.id);
    await page.keyboard.type("table");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("please");
    const typed = await page.inputValue("#question");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".turn.bot [aria-busy], .turn.bot .answer p");
    await answered(page);
    return {
      focused,
      typed,
      shown: await page.locator(".turn.user .text").innerText(),
      cells: await page.locator("td").allInnerTexts(),
      code: await page.locator("pre code").innerText(),
      copies: await page.locator(".copy").count(),
      announced: await page.locator("#status").innerText(),
      address: page.url(),
      titles: await titles(page),
    };
  },

  async growth(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    await page.fill("#question", "slow");
    await page.press("#question", "Enter");
    const lengths = new Set();
    while ((await page.locator("[aria-busy]").count()) > 0) {
      lengths.add((await page.locator(".turn.bot .answer").innerText()).length);
    }
    return { steps: lengths.size };
  },

  async composition(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    await page.fill("#question", "nihao");
    await page.evaluate(() => {
      const event = new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true });
      document.getElementById("question").dispatchEvent(event);
    });
    return { turns: await page.locator(".turn").count(), kept: await page.inputValue("#question") };
  },

  async hostile(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    const answer = await say(page, "hostile");
    await page.reload();
    const again = await page.locator(".turn.bot .answer").innerText();
    const hacked = await page.evaluate(() => window.hacked === true);
    const inline = await page.evaluate(() => {
      try {
        document.body.innerHTML = "<p>";
        return true;
      } catch {
        return false;
      }
    });
    problems.splice(0);
    return { answer, again, hacked, inline };
  },

  async conversations(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    await say(page, "first topic");
    await page.click(".new");
    await page.waitForSelector("#welcome");
    await say(page, "second topic");
    await page.click("#rename");
    await page.fill("#new-title", "Renamed");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.getElementById("title").textContent === "Renamed");
    const renamed = await titles(page);
    await page.click("#conversations a >> text=first topic");
    await page.waitForFunction(() => document.getElementById("title").textContent === "first topic");
    const turns = await page.locator(".turn").count();
    await page.click("#delete");
    await page.click("#delete-dialog .danger");
    await page.waitForSelector("#welcome");
    return { renamed, turns, left: await titles(page) };
  },

  async reload(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    await page.fill("#question", "slow");
    await page.press("#question", "Enter");
    await page.waitForFunction(() => document.querySelector(".turn.bot .answer").textContent.length > 0);
    await page.reload();
    return { answer: await answered(page), questions: await page.locator(".turn.user").count() };
  },

  async interruption(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    let requests = 0;
    await page.route("**/console/messages", (route) => {
      requests += 1;
      return requests === 1 ? route.abort() : route.continue();
    });
    const answer = await say(page, "again");
    return { answer, requests };
  },

  async appearance(browser, given) {
    const found = {};
    for (const [name, link, options] of [
      ["light", given.links[0], { colorScheme: "light" }],
      ["dark", given.links[1], { colorScheme: "dark", locale: "zh-CN" }],
    ]) {
      const page = await open(browser, given, options);
      await logIn(page, link);
      found[name] = {
        background: await page.evaluate(() => getComputedStyle(document.body).backgroundColor),
        language: await page.evaluate(() => document.documentElement.lang),
        greeting: await page.locator(".greeting").innerText(),
      };
    }
    return found;
  },

  async narrow(browser, given) {
    const page = await open(browser, given, { viewport: { width: 360, height: 640 } });
    await logIn(page, given.links[0]);
    await say(page, "table");
    const wider = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    const before = await page.locator(".new").isVisible();
    await page.click("#menu");
    const opened = await page.evaluate(() => document.activeElement.className === "new");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => getComputedStyle(document.getElementById("sidebar")).visibility === "hidden");
    return { wider, before, opened, focused: await page.evaluate(() => document.activeElement.id) };
  },

  async keyboard(browser, given) {
    const page = await open(browser, given);
    await logIn(page, given.links[0]);
    await say(page, "table");
    await page.evaluate(() => document.activeElement.blur());
    const order = [];
    for (let pressed = 0; pressed < 12 && order.at(-1) !== "question"; pressed += 1) {
      await page.keyboard.press("Tab");
      order.push(
        await page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName),
      );
    }
    return { order: order.filter((name) => name !== "BODY") };
  },
};

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const given = JSON.parse(Buffer.concat(chunks).toString());
  const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox"] });
  try {
    const observed = await scenarios[process.argv[2]](browser, given);
    if (problems.length > 0) throw new Error(problems.join("\n"));
    console.log(JSON.stringify(observed));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
