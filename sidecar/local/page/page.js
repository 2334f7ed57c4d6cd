"use strict";
// Show the state of the local services, and send the controls.
//
// Rules: every text from the server becomes a text node and never HTML. The page asks only its own server.

const SIGNS = { good: "✓", bad: "✗", note: "•" };
const WORDS = { good: "success", bad: "problem", note: "note" };
const COMPONENTS = [
  ["kubelet", "Kubelet", "writes the token into a volume"],
  ["issuer", "Issuer", "signs tokens, publishes the keys"],
  ["STS", "STS", "checks the token and the trust policy"],
  ["daemon", "Daemon", "keeps the credentials fresh"],
  ["client", "Client", "gets credentials from the daemon"],
];
const LIT_MILLISECONDS = 1800;
const LOST_MILLISECONDS = 15000; // three heartbeats of the server
const ANNOUNCE_MILLISECONDS = 4000;

let state = null;
let offsetSeconds = 0; // of the server's clock before this clock
let receivedAt = Date.now();
let spoken = 0;
let spokenAt = 0;
const shown = new Map(); // the last rendered value of each section

const byId = (id) => document.getElementById(id);
const now = () => Date.now() / 1000 + offsetSeconds;

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const sign = (mark) => element("span", { class: "sign" },
  element("span", { "aria-hidden": "true" }, SIGNS[mark]), element("span", { class: "unseen" }, WORDS[mark]));

function setText(id, text) {
  const target = byId(id);
  if (target.textContent !== text) target.textContent = text;
}

// Render a section only if its value changed, so that the selection of text and the focus stay.
function section(id, value, render) {
  const key = JSON.stringify(value);
  if (shown.get(id) === key) return;
  shown.set(id, key);
  byId(id).replaceChildren(...render(value));
}

function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
}

// Show instants in the time zone of the browser, like all other times on the page.
const localized = (text) => text.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, (instant) => clockTime(Date.parse(instant) / 1000));

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

// ---- The flow

function makeBoxes() {
  byId("flow").replaceChildren(...COMPONENTS.map(([name, title, task]) =>
    element("li", { class: "box", id: `box-${name}` },
      element("h3", {}, title, element("span", { class: "sign" })),
      element("p", { class: "soft" }, task), element("p", { class: "last" }), element("time", {}))));
}

function renderBoxes(before) {
  for (const [name] of COMPONENTS) {
    const line = state.boxes[name];
    const box = byId(`box-${name}`);
    if (!line || box.dataset.number === String(line.number)) continue;
    box.dataset.number = line.number;
    box.dataset.mark = line.mark;
    box.querySelector(".sign").replaceWith(sign(line.mark));
    box.querySelector(".last").textContent = localized(line.text);
    if (before) light(box, line.number);
  }
}

function light(box, number) {
  box.classList.add("lit");
  setTimeout(() => {
    if (box.dataset.number === String(number)) box.classList.remove("lit");
  }, LIT_MILLISECONDS);
}

// ---- Token and trust policy

// Mark a claim that a condition of the last decision compared.
function claimMark(name, value) {
  const decision = state.decisions[state.roles[0]];
  if (!decision) return null;
  const found = decision.statements.flatMap((each) => each.conditions)
    .find((each) => each.key.endsWith(`:${name}`) && each.actual.join(", ") === value);
  return found ? (found.holds ? "good" : "bad") : null;
}

function claimRow([name, value, mark]) {
  const isTime = ["iat", "nbf", "exp"].includes(name) && /^[0-9]{1,11}$/.test(value);
  const text = isTime ? `${value} (${clockTime(Number(value))})` : value;
  return element("tr", { "data-mark": mark }, element("th", { scope: "row" }, name),
    element("td", { class: "mono" }, text, ...(mark ? [" ", sign(mark)] : [])));
}

const claimRows = (token) => token && [...token.claims, ...token.header]
  .map(([name, value]) => [name, value, claimMark(name, value)]);

function condition(mark, word, name, rows) {
  return element("div", { class: "condition", "data-mark": mark }, sign(mark), element("div", {},
    element("span", { class: "name mono" }, name), " ", element("span", { class: "word" }, word),
    element("dl", {}, ...rows.flatMap(([title, value]) =>
      [element("dt", {}, title), element("dd", { class: "mono" }, value)]))));
}

const conditionOf = (source) => (each) => {
  const mark = each.holds === null ? "note" : each.holds ? "good" : "bad";
  const word = each.holds === null ? "was not compared" : each.holds ? "is true" : "is false";
  const rows = [["policy wants", each.wanted.join(" or ")]];
  if (each.actual !== null) rows.push([`${source} has`, each.actual.join(", ") || "nothing"]);
  if (each.line !== null) rows.push(["in the file", `line ${each.line}`]);
  return condition(mark, word, `${each.operator} ${each.key}`, rows);
};

function tokenCheck(decision, audiences) {
  const rows = [["provider accepts the audience", audiences.join(" or ")]];
  const name = "Signature, times and audience";
  if (!decision) return condition("note", "not verified yet", name, rows);
  if (decision.is_allowed || decision.statements.length) return condition("good", "are valid", name, rows);
  return condition("bad", "STS rejected the call earlier", name, [...rows, ["reason", decision.reason]]);
}

function policyParts({ decision, policy, audiences, isFirst }) {
  const statements = decision && decision.statements.length ? decision.statements : policy;
  const isOfToken = decision ? decision.is_of_a_token : isFirst;
  return [...(isOfToken ? [tokenCheck(decision, audiences)] : []), ...statements.flatMap((each) => [
    element("h3", {}, `${each.label}: ${each.effect}`),
    ...(each.unknown === null ? [] : [element("p", { class: "soft" }, each.unknown)]),
    ...each.conditions.map(conditionOf(isOfToken ? "token" : "request"))])];
}

function reasonOf(decision, isFirst) {
  if (!decision) return isFirst ? "STS has not compared a token with the policy yet." : "No call has named this role yet.";
  const at = `At ${clockTime(decision.at)}, STS `;
  return at + (decision.statements.length
    ? `compared a ${decision.is_of_a_token ? "token" : "call of AssumeRole"} with the policy of the role.`
    : `rejected a call before it read the policy: ${decision.reason}.`);
}

// Show the list of roles if there is a choice. The first role is the role of the daemon.
function renderRoles() {
  byId("role-choice").hidden = state.roles.length < 2;
  section("role-of-policy", state.roles, (roles) => roles.map((arn, index) =>
    element("option", { value: arn }, index ? arn : `${arn} (daemon)`)));
  return byId("role-of-policy").value || state.roles[0];
}

function renderPolicy() {
  const role = renderRoles();
  const decision = state.decisions[role];
  const isFirst = role === state.roles[0];
  section("policy", { decision, policy: state.policies[role], audiences: state.audiences, isFirst }, policyParts);
  const badge = byId("decision");
  badge.dataset.mark = decision ? (decision.is_allowed ? "good" : "bad") : "note";
  const allowed = decision && decision.is_of_a_token ? "✓ STS allows the token" : "✓ STS allows the call";
  setText("decision", decision ? (decision.is_allowed ? allowed : `✗ STS rejects: ${decision.code}`) : "");
  setText("reason", reasonOf(decision, isFirst));
}

// ---- Sessions

function place(made, values) {
  for (const [name, share] of Object.entries(values)) {
    made.style.setProperty(name, `${(100 * Math.min(1, Math.max(0, share))).toFixed(3)}%`);
  }
  return made;
}

function sessionRow(each, index, from, long) {
  const share = (at) => (at - from) / long;
  const track = element("div", { class: "track" }, place(element("div", { class: "bar" }),
    { "--from": share(each.started_at), "--long": (each.expires_at - each.started_at) / long }));
  if (index === 0) {
    track.append(place(element("div", { class: "point" }, "refresh"), { "--at": share(each.refresh_at) }),
      ...state.failed_at.map((at) => place(element("div", { class: "fail", "aria-hidden": "true" }, "✗"),
        { "--at": share(at) })), element("div", { class: "now" }));
  }
  return element("div", { class: index ? "session old" : "session" },
    element("span", { class: "mono" }, each.access_key_id), track);
}

function sessionWindow() {
  const from = Math.min(...state.sessions.map((each) => each.started_at));
  return [from, Math.max(...state.sessions.map((each) => each.expires_at)) - from];
}

function sessionParts({ sessions }) {
  if (!sessions.length) return [element("p", { class: "soft" }, "The daemon has no credentials yet.")];
  const [from, long] = sessionWindow();
  return [...sessions.map((each, index) => sessionRow(each, index, from, long)),
    element("div", { class: "session", "aria-hidden": "true" }, element("span", {}), element("div", { class: "scale" },
      element("span", {}, clockTime(from)), element("span", {}, clockTime(from + long))))];
}

function tickSessions() {
  const [current] = state.sessions;
  const marker = document.querySelector(".now");
  if (!current || !marker) return;
  const [from, long] = sessionWindow();
  place(marker, { "--at": (now() - from) / long });
  const failed = state.failures;
  setText("sessions-text", `The newest session began at ${clockTime(current.started_at)} and expires at ` +
    `${clockTime(current.expires_at)}, in ${duration(current.expires_at - now())}. ` +
    (failed ? `Failed attempts since then: ${failed}.` : `The refresh is planned for ${clockTime(current.refresh_at)}.`));
  const badge = byId("next");
  badge.dataset.mark = failed ? "bad" : "good";
  const left = state.next_attempt_in_seconds - (Date.now() - receivedAt) / 1000;
  const name = failed ? "✗ next attempt" : "✓ next refresh";
  setText("next", left > 0 ? `${name} in ${duration(left)}` : `${name} now`);
}

// ---- Controls

function makeControls() {
  byId("controls").replaceChildren(...state.controls.map((each) => {
    const button = element("button", { type: "button", "aria-describedby": `about-${each.name}` }, each.label);
    button.addEventListener("click", () => press(each.name, button));
    return element("li", { id: `control-${each.name}` }, button,
      element("p", { class: "effect", id: `about-${each.name}` }, each.effect),
      element("p", { class: "promise" }, each.promise));
  }));
}

function renderControls() {
  if (!byId("controls").hasChildNodes()) makeControls();
  for (const each of state.controls) {
    byId(`control-${each.name}`).classList.toggle("active", each.left_seconds !== null);
  }
  tickControls();
}

function tickControls() {
  for (const each of state.controls) {
    const button = byId(`control-${each.name}`).querySelector("button");
    const left = each.left_seconds === null ? null : each.left_seconds - (Date.now() - receivedAt) / 1000;
    const text = left === null ? each.label : `End: ${each.label} (${duration(left)})`;
    if (button.textContent !== text) button.textContent = text;
  }
}

async function press(name, button) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  setText("control-error", "");
  const isActive = byId(`control-${name}`).classList.contains("active");
  try {
    const response = await fetch(`controls/${name}/${isActive ? "end" : "start"}`, { method: "POST" });
    if (!response.ok) setText("control-error", await response.text());
  } catch {
    setText("control-error", "irsa-sidecar does not respond. It may have ended.");
  }
  button.removeAttribute("aria-busy");
}

// ---- Lists

const lineItem = (line, text) => element("li", { "data-mark": line.mark },
  element("time", {}, clockTime(line.at)), sign(line.mark), text);

const times = (each) => each.count > 1 ? ` (${each.count} times)` : "";

function callItem(call) {
  return lineItem(call, element("span", {}, call.text + times(call), " ", element("span", { class: "client" }, call.client)));
}

function renderLists() {
  section("events", state.lines, (lines) => lines.map((line) =>
    lineItem(line, element("span", {}, element("b", {}, line.component), ` ${localized(line.text)}${times(line)}`))));
  section("calls", state.calls, (calls) => calls.map(callItem));
  byId("no-calls").hidden = state.calls.length > 0;
  const counts = byId("counts");
  counts.dataset.mark = state.not_served ? "note" : "good";
  const noun = state.served === 1 ? "response" : "responses";
  setText("counts", `${state.served} ${noun} with credentials, ${state.not_served} without`);
}

// ---- The whole page

function renderService() {
  const [current] = state.sessions;
  const service = byId("service");
  service.dataset.mark = state.is_serving ? "good" : "bad";
  service.querySelector(".sign").textContent = state.is_serving ? "✓" : "✗";
  setText("service-title", state.is_serving ? "Credentials are in service" : "No valid credentials");
  setText("service-detail", !current ? "The daemon has not received any."
    : `${current.access_key_id}, ${state.is_serving ? `valid for ${duration(current.expires_at - now())}` : "not valid"}`);
}

function announce() {
  const line = state.lines.find((each) => each.mark !== "note" && each.component !== "client");
  if (!line || line.number <= spoken || Date.now() - spokenAt < ANNOUNCE_MILLISECONDS) return;
  spoken = line.number;
  spokenAt = Date.now();
  setText("announcement", `${line.component} ${line.text}`);
}

function tick() {
  const isLost = Date.now() - receivedAt > LOST_MILLISECONDS;
  byId("lost").hidden = !isLost;
  if (isLost) setText("lost", "irsa-sidecar does not respond. This page shows the last known state.");
  if (!state) return;
  for (const [name] of COMPONENTS) {
    const line = state.boxes[name];
    if (line) byId(`box-${name}`).querySelector("time").textContent = `${duration(now() - line.at)} ago`;
  }
  if (state.token) {
    const left = state.token.expires_at - now();
    byId("token-time").dataset.mark = left > 0 ? "good" : "bad";
    setText("token-time", left > 0 ? `✓ expires in ${duration(left)}` : `✗ expired ${duration(-left)} ago`);
  }
  renderService();
  tickSessions();
  tickControls();
  announce();
}

function render(before) {
  setText("role", state.roles[0]);
  renderBoxes(before);
  section("claims", claimRows(state.token), (rows) => (rows || []).map(claimRow));
  renderPolicy();
  section("sessions", { sessions: state.sessions, failed: state.failed_at }, sessionParts);
  renderControls();
  renderLists();
  tick();
}

makeBoxes();
byId("role-of-policy").addEventListener("change", () => renderPolicy());
const source = new EventSource("events");
source.addEventListener("message", (event) => {
  const before = state;
  state = JSON.parse(event.data);
  offsetSeconds = state.now - Date.now() / 1000;
  receivedAt = Date.now();
  render(before);
});
setInterval(tick, 1000);
