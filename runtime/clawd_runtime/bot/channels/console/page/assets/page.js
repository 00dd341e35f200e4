"use strict";

(() => {
  const texts = JSON.parse(document.body.dataset.texts);
  const find = (id) => document.getElementById(id);
  const pause = (seconds) => new Promise((resume) => setTimeout(resume, 1000 * seconds));

  // The only place where text becomes elements: it is the HTML that the bot made of an answer.
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("clawd-page", { createHTML: (html) => html })
    : { createHTML: (html) => html };

  function elementsOf(html) {
    const template = document.createElement("template");
    template.innerHTML = policy.createHTML(html);
    return template.content;
  }

  function element(name, classes = "", text = "") {
    const made = document.createElement(name);
    made.className = classes;
    made.textContent = text;
    return made;
  }

  function post(path, body) {
    return fetch(`/console/${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      credentials: "same-origin",
    });
  }

  async function messageOf(response) {
    if (response.status >= 500) return texts.failed;
    try {
      return (await response.json()).message || texts.failed;
    } catch {
      return texts.failed;
    }
  }

  // Logging in. The token is removed from the address first, so that it stays in no history.

  async function logIn(token) {
    history.replaceState(null, "", "/console/");
    const status = find("login");
    if (status) status.textContent = texts.logging_in;
    let problem = texts.connection_lost;
    try {
      const response = await post("session", { token });
      if (response.ok) {
        location.replace("/console/");
        return;
      }
      problem = await messageOf(response);
    } catch {
      // The text for a lost connection is set already.
    }
    if (status) status.textContent = problem;
    else alert(problem);
  }

  // After a link on another site, the browser sends the cookie only with requests of this page.
  async function enterWithSession() {
    try {
      const response = await fetch("/console/session", { credentials: "same-origin" });
      if (response.ok && !sessionStorage.getItem("entered")) {
        sessionStorage.setItem("entered", "1");
        location.replace(location.href);
      }
    } catch {
      // The page stays as it is.
    }
  }

  const login = new URLSearchParams(location.hash.slice(1)).get("login");
  if (login) {
    logIn(login);
    if (!find("composer")) return;
  } else if (!find("composer")) {
    enterWithSession();
    window.addEventListener("hashchange", () => location.reload());
    return;
  }
  sessionStorage.removeItem("entered");
  window.addEventListener("hashchange", () => location.reload());

  // Chat

  const conversation = document.body.dataset.conversation;
  const log = find("log");
  const scroll = find("scroll");
  const question = find("question");
  const send = find("send");
  const status = find("status");
  let asking = 0;

  function atEnd() {
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  }

  function toEnd() {
    scroll.scrollTop = scroll.scrollHeight;
  }

  function turn(kind, label) {
    const made = element("article", `turn ${kind}`);
    made.append(element("h2", "unseen", label));
    return made;
  }

  function addCopyButtons(within) {
    for (const caption of within.querySelectorAll(".code figcaption")) {
      if (caption.querySelector(".copy")) continue;
      const button = element("button", "copy", texts.copy);
      button.type = "button";
      caption.append(button);
    }
  }

  function showQuestion(text) {
    const made = turn("user", texts.you);
    made.append(element("div", "text", text));
    log.append(made);
  }

  function beginAnswer() {
    const made = turn("bot", texts.assistant);
    const answer = element("div", "answer");
    answer.setAttribute("aria-busy", "true");
    const note = element("p", "note");
    const dots = element("span", "dots");
    dots.append(element("i"), element("i"), element("i"));
    made.append(answer, dots, note);
    log.append(made);
    return { made, answer, note, dots };
  }

  function replaceFrom(answer, from, html) {
    while (answer.children.length > from) answer.lastElementChild.remove();
    answer.append(elementsOf(html));
    addCopyButtons(answer);
  }

  // Yield the server-sent events of a response.
  async function* eventsOf(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const field = (name) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
        if (field("event")) yield { name: field("event"), data: JSON.parse(field("data")) };
      }
    }
  }

  // Show the events of one request. Return whether the answer has ended.
  async function follow(response, shown) {
    for await (const { name, data } of eventsOf(response)) {
      const follows = atEnd();
      shown.note.textContent = name === "waiting" ? data.text : "";
      if (name === "part" || name === "done") {
        shown.dots.hidden = name === "done" || data.from > 0 || data.html !== "";
        replaceFrom(shown.answer, data.from, data.html);
      }
      if (name === "error") showProblem(shown, data.message);
      if (follows) toEnd();
      if (name === "done" || name === "error") return true;
      if (name === "again") return false;
    }
    return false;
  }

  function showProblem(shown, message, again) {
    shown.dots.hidden = true;
    shown.note.className = "note problem";
    shown.note.textContent = message;
    if (again) {
      const button = element("button", "", texts.try_again);
      button.type = "button";
      button.addEventListener("click", () => {
        shown.made.remove();
        again();
      });
      shown.note.append(button);
    }
  }

  // A request that breaks off is repeated under the same id: the bot answers a question once.
  async function ask(text, id) {
    const shown = beginAnswer();
    const again = () => ask(text, id);
    toEnd();
    asking += 1;
    status.textContent = texts.thinking;
    update();
    try {
      for (let attempt = 0; ; attempt += 1) {
        let response = null;
        try {
          response = await post("messages", { text, conversation, id });
          if (response.ok && (await follow(response, shown))) break;
        } catch {
          // The connection was lost, perhaps while the answer was read.
        }
        if (response && !response.ok && response.status < 500 && response.status !== 429) {
          showProblem(shown, await messageOf(response));
          break;
        }
        if (attempt === 8) {
          showProblem(shown, texts.connection_lost, again);
          break;
        }
        shown.note.textContent = texts.reconnecting;
        await pause(Math.min(10, 2 ** attempt));
      }
    } finally {
      asking -= 1;
      shown.answer.removeAttribute("aria-busy");
      status.textContent = shown.answer.textContent
        ? `${texts.answered} ${shown.answer.innerText}`
        : shown.note.textContent;
      update();
    }
  }

  function update() {
    send.disabled = asking > 0 || question.value.trim() === "";
    if (!CSS.supports("field-sizing", "content")) {
      question.style.height = "auto";
      question.style.height = `${question.scrollHeight}px`;
    }
  }

  // A new conversation appears in the list, and in the address, with its first message.
  function enterConversation(text) {
    const address = `/console/?c=${encodeURIComponent(conversation)}`;
    if (find("conversations").querySelector("[aria-current]")) return;
    const entry = element("a", "", text.replace(/\s+/g, " ").slice(0, 80));
    entry.href = address;
    entry.setAttribute("aria-current", "page");
    const item = element("li");
    item.append(entry);
    find("conversations").prepend(item);
    find("title").textContent = entry.textContent;
    document.title = `${entry.textContent} · ${texts.assistant}`;
    find("actions").hidden = false;
    history.replaceState(null, "", address);
  }

  find("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = question.value.trim();
    if (!text || asking) return;
    find("welcome")?.remove();
    question.value = "";
    enterConversation(text);
    showQuestion(text);
    ask(text, crypto.randomUUID());
    question.focus();
  });

  question.addEventListener("input", update);
  question.addEventListener("keydown", (event) => {
    // While an input method composes (Chinese, for example), Enter chooses characters.
    const composing = event.isComposing || event.keyCode === 229;
    if (event.key === "Enter" && !event.shiftKey && !composing) {
      event.preventDefault();
      find("composer").requestSubmit();
    }
  });

  log.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.closest("figure").querySelector("code").textContent);
    button.textContent = texts.copied;
    status.textContent = texts.copied;
    await pause(2);
    button.textContent = texts.copy;
  });

  // The list of conversations in a narrow window

  function showList(shown) {
    document.body.classList.toggle("with-list", shown);
    find("menu").setAttribute("aria-expanded", String(shown));
    if (shown) find("sidebar").querySelector("a").focus();
  }

  find("menu").addEventListener("click", () => showList(!document.body.classList.contains("with-list")));
  find("shade").addEventListener("click", () => showList(false));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.body.classList.contains("with-list")) {
      showList(false);
      find("menu").focus();
    }
  });

  // Renaming, deleting, logging out

  async function change(path, body) {
    try {
      const response = await post(path, body);
      if (response.ok) return true;
      alert(await messageOf(response));
    } catch {
      alert(texts.connection_lost);
    }
    return false;
  }

  function dialog(name, before, confirmed) {
    const shown = find(`${name}-dialog`);
    find(name).addEventListener("click", () => {
      before();
      shown.showModal();
    });
    shown.querySelector(".cancel").addEventListener("click", () => shown.close());
    shown.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      shown.close();
      confirmed();
    });
  }

  dialog(
    "rename",
    () => {
      find("new-title").value = find("title").textContent;
    },
    async () => {
      const title = find("new-title").value.trim();
      if (title && (await change("conversations/rename", { conversation, title }))) location.reload();
    },
  );
  dialog(
    "delete",
    () => {},
    async () => {
      if (await change("conversations/forget", { conversation })) location.replace("/console/");
    },
  );
  find("log-out").addEventListener("click", async () => {
    if (await change("session/end", {})) location.replace("/console/");
  });

  // Questions that were open when the page was loaded

  addCopyButtons(log);
  for (const open of JSON.parse(document.body.dataset.open)) ask(open.text, open.id);
  toEnd();
  update();
})();
