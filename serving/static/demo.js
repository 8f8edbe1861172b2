// The demo page: a person's history on the left, one row per interest on the right.
// Apart from the title search, it uses only the public REST API.

const HUES = ["#2b6cb0", "#c05621", "#2f855a", "#9f3a8e", "#b7791f", "#0f766e", "#7f1d1d", "#4c51bf"];
const SEARCH_DELAY_MS = 120;
const SAMPLE_SIZE = 4;
const MOST_ITEMS = 1000;
const MOST_CATEGORIES = 200;

const element = (id) => document.getElementById(id);
const state = { model: "", inputs: {}, history: [], titles: new Map(), categories: new Map(), turn: 0, filters: [], live: null, outOfStock: [] };

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

async function json(url, options) {
  const response = await fetch(url, options);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error || `HTTP ${response.status}`);
  return body;
}

// The page combines several answers, which must come from one version even while a canary is on
// trial. Requests with the same key are answered by the same version.
const headers = { "x-caller-key": `demo ${Math.random()}` };

async function predict(signature, inputs) {
  const body = JSON.stringify({ signature_name: signature, inputs });
  const url = `/v1/models/${encodeURIComponent(state.model)}:predict`;
  return (await json(url, { method: "POST", headers, body })).outputs;
}

const title = (id) => state.titles.get(id) || id;

async function learnTitles(ids) {
  const missing = [...new Set(ids)].filter((id) => id && !state.titles.has(id));
  if (!missing.length) return;
  const { titles, known } = await predict("item_titles", { items: missing });
  missing.forEach((id, i) => state.titles.set(id, known[i] ? titles[i] || id : ""));
}

async function learnCategories(ids) {
  const missing = [...new Set(ids)].filter((id) => id && !state.categories.has(id));
  if (!missing.length || !state.inputs.item_categories) return;
  const { categories } = await predict("item_categories", { items: missing });
  missing.forEach((id, i) => state.categories.set(id, categories[i].filter(Boolean)));
}

// Profile features of the model, from the signature's inputs.
function profile() {
  const values = {};
  for (const input of document.querySelectorAll("#profile input")) values[input.name] = [input.value];
  return values;
}

// The wording of a filter, by the prefix of its input; the last two are bounds of a number.
const FILTERS = { "allow_": "is", "deny_": "is not", "min_": "at least", "max_": "at most" };
const prefixOf = (input) => Object.keys(FILTERS).find((prefix) => input.startsWith(prefix));
const isBound = (input) => ["min_", "max_"].includes(prefixOf(input));
const CATEGORY = "categories";

function filterText(input) {
  const feature = input.slice(prefixOf(input).length);
  return `${feature === CATEGORY ? "category" : feature} ${FILTERS[prefixOf(input)]}`;
}

const filterInputs = () => state.inputs.serving_default.filter(prefixOf)
  .sort((a, b) => filterText(a).localeCompare(filterText(b)));

// Every filter of the signature: the chosen value, or "" for none.
function filters() {
  return Object.fromEntries(filterInputs().map((input) => {
    const values = state.filters.filter((filter) => filter.input === input).map(({ value }) => value);
    return [input, isBound(input) ? [values[0] || ""] : [values.length ? values : [""]]];
  }));
}

function setFilters(chosen) {
  state.filters = chosen;
  showFilters();
  saveAddress();
  recommend();
}

function showFilters() {
  element("filters").replaceChildren(...state.filters.map(({ input, value }, i) => {
    const chip = make("button", { type: "button", className: "chip", title: "Remove this filter" },
      `${filterText(input)} ${value} ✕`);
    chip.addEventListener("click", () => setFilters(state.filters.filter((_, n) => n !== i)));
    return chip;
  }));
}

function addFilter() {
  const input = element("filter-by").value;
  const value = element("filter-value").value.trim();
  if (!value) return;
  const others = state.filters.filter((filter) =>
    filter.input !== input || (!isBound(input) && filter.value !== value));
  element("filter-value").value = "";
  setFilters([...others, { input, value }]);
}

// Categories can be suggested; the values of other features are not known here.
function suggestValues() {
  const ofCategories = element("filter-by").value.endsWith(`_${CATEGORY}`);
  element("filter-value").setAttribute("list", ofCategories ? "category-names" : "");
  element("filter-value").type = isBound(element("filter-by").value) ? "number" : "text";
}

async function startFilters(address) {
  if (!filterInputs().length) return;
  if (state.inputs.list_categories) {
    const { categories } = await predict("list_categories", { limit: MOST_CATEGORIES });
    element("category-names").append(...categories.map((name) => make("option", { value: name })));
  }
  element("filter-by").append(...filterInputs().map((input) => make("option", { value: input }, filterText(input))));
  element("filter-by").addEventListener("input", suggestValues);
  element("new-filter").addEventListener("submit", (event) => { event.preventDefault(); addFilter(); });
  element("new-filter").hidden = false;
  suggestValues();
  state.filters = address.getAll("filter").map((filter) => {
    const [input, ...value] = filter.split(":");
    return { input, value: value.join(":") };
  }).filter(({ input }) => filterInputs().includes(input));
  showFilters();
}

function onlyInputsOf(signature, values) {
  const known = state.inputs[signature] || [];
  return Object.fromEntries(Object.entries(values).filter(([name]) => known.includes(name)));
}

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

// Assigns each history item to the active interest closest to it.
function formedBy(history, vectors, known, interests, mask) {
  const groups = interests.map(() => []);
  history.forEach((id, i) => {
    if (!known[i]) return;
    const scores = interests.map((interest, n) => (mask[n] ? dot(interest, vectors[i]) : -Infinity));
    const best = scores.indexOf(Math.max(...scores));
    groups[best].push({ id, score: scores[best] });
  });
  return groups;
}

// The answer is one ranking over all interests, so an interest with lower scores
// comes late in it: the page asks for more until every interest has filled its row.
async function findForAll(k, numInterests, request) {
  let wanted = Math.min(MOST_ITEMS, k * numInterests * 2);
  let found = await request(wanted);
  while (wanted < MOST_ITEMS) {
    const counts = new Map();
    found.item_ids[0].forEach((id, i) => {
      const interest = found.interest_index[0][i];
      if (id) counts.set(interest, (counts.get(interest) || 0) + 1);
    });
    const complete = [...counts.values()].filter((count) => count >= k).length >= numInterests;
    if (complete || found.item_ids[0].includes("")) break; // or the catalogue is exhausted
    wanted = Math.min(MOST_ITEMS, wanted * 5);
    const more = await request(wanted).catch(() => null); // beyond the index's max_k
    if (!more) break;
    found = more;
  }
  return found;
}

async function recommend() {
  const turn = ++state.turn;
  element("results").ariaBusy = "true";
  const history = state.history;
  const k = Number(element("k").value);
  const shown = Number(element("interests").value);
  const padded = [history.length ? history : [""]];
  const unknownTimes = [padded[0].map(() => 0)];
  try {
    const [user, items] = await Promise.all([
      predict("user_interests", onlyInputsOf("user_interests", {
        history: padded,
        history_time: unknownTimes,
        ...profile(),
      })),
      history.length ? predict("item_embeddings", { items: history }) : { vectors: [], known: [] },
    ]);
    const interests = user.interests[0];
    const mask = user.interest_mask[0];
    const found = await findForAll(k, history.length ? mask.filter(Boolean).length : 1, (wanted) =>
      predict("serving_default", onlyInputsOf("serving_default", {
        history: padded,
        k: wanted,
        exclude_history: element("exclude-history").checked,
        diversity: Number(element("diversity").value),
        ...filters(),
        ...profile(),
      })));
    await Promise.all([learnTitles([...history, ...found.item_ids[0]]), learnCategories(found.item_ids[0])]);
    if (turn !== state.turn) return; // a newer request has been made meanwhile
    const groups = formedBy(history, items.vectors, items.known, interests, mask);
    showHistory(groups);
    showResults(found, groups, k, shown);
    element("results").ariaBusy = "false";
    element("error").hidden = true;
  } catch (error) {
    if (turn !== state.turn) return;
    element("error").textContent = error.message;
    element("error").hidden = false;
  }
}

function showHistory(groups = []) {
  const owner = new Map();
  groups.forEach((group, n) => group.forEach(({ id }) => owner.set(id, n)));
  element("history").replaceChildren(...state.history.map((id, i) => {
    const known = state.titles.get(id) !== "";
    const mark = make("i", { className: "dot", ariaHidden: "true" });
    if (owner.has(id)) mark.style.setProperty("--hue", HUES[owner.get(id) % HUES.length]);
    const name = make("span", { className: known ? "" : "unknown" }, known ? title(id) : `${id} (unknown)`);
    const remove = make("button", { type: "button", ariaLabel: `Remove ${title(id)}` }, "✕");
    remove.addEventListener("click", () => setHistory(state.history.filter((_, n) => n !== i)));
    const row = make("li", {}, mark, name, remove);
    row.dataset.item = id;
    return row;
  }));
  element("history-hint").hidden = state.history.length > 0;
}

function showResults(found, groups, k, shown) {
  const rows = new Map();
  found.item_ids[0].forEach((id, i) => {
    const interest = found.interest_index[0][i];
    if (!id) return;
    if (!rows.has(interest)) rows.set(interest, []);
    rows.get(interest).push({ id, score: found.scores[0][i] });
  });
  // The interest that finds the best item comes first.
  const sections = [...rows].slice(0, shown).map(([interest, items]) => {
    const popular = interest < 0;
    const section = make("section", { className: "interest" });
    section.dataset.interest = interest;
    if (!popular) section.style.setProperty("--hue", HUES[interest % HUES.length]);
    section.append(make("h2", {}, popular ? "Popular items" : `Interest ${interest + 1}`));
    if (!popular) {
      const chips = groups[interest].sort((a, b) => b.score - a.score)
        .map(({ id }) => make("span", { className: "chip" }, title(id)));
      section.append(make("p", { className: "formed" }, chips.length ? "formed by" : "formed by a mixture",
        ...chips));
    }
    section.append(make("ul", { className: "items" }, ...items.slice(0, k).map(({ id, score }) => {
      const add = make("button", { type: "button", title: "Add to the history" }, make("span", { className: "title" }, title(id)));
      add.addEventListener("click", () => setHistory([...state.history, id]));
      const detail = popular ? `${score} in train` : score.toFixed(3);
      const card = make("li", {}, add, make("span", { className: "detail" }, detail));
      const categories = state.categories.get(id) || [];
      if (categories.length) card.append(make("span", { className: "detail categories" }, categories.join(", ")));
      if (state.live) {
        const hide = make("button", { type: "button", className: "hide", title: "Out of stock" }, "out of stock");
        hide.addEventListener("click", () => setInStock(id, false));
        card.append(hide);
      }
      card.dataset.item = id;
      return card;
    })));
    return section;
  });
  element("results").replaceChildren(...(sections.length ? sections : [make("p", {}, "Nothing found.")]));
}

function setHistory(history) {
  state.history = history;
  saveAddress();
  showHistory();
  recommend();
}

// The page's address contains the request, so that it can be shared and reloaded.
function saveAddress() {
  const values = new URLSearchParams({ model: state.model, history: state.history.join(","), k: element("k").value });
  if (Number(element("diversity").value)) values.set("diversity", element("diversity").value);
  for (const { input, value } of state.filters) values.append("filter", `${input}:${value}`);
  window.history.replaceState(null, "", `#${values}`);
}

function showValues() {
  for (const id of ["k", "diversity", "interests"]) element(`${id}-value`).value = element(id).value;
}

async function search() {
  const query = element("query").value.trim();
  const list = element("matches");
  const close = () => { list.hidden = true; element("query").ariaExpanded = "false"; };
  if (!query) return close();
  const values = new URLSearchParams({ model: state.model, q: query });
  const found = await json(`/demo/items?${values}`).catch(() => []);
  if (query !== element("query").value.trim()) return;
  list.replaceChildren(...found.map(({ id, title: name }) => {
    state.titles.set(id, name || id);
    const option = make("li", { role: "option" }, name ? `${name} (${id})` : id);
    option.dataset.item = id;
    option.addEventListener("mousedown", (event) => { event.preventDefault(); choose(id); });
    return option;
  }));
  if (!found.length) list.replaceChildren(make("li", { className: "hint" }, "Nothing matches."));
  list.hidden = false;
  element("query").ariaExpanded = "true";

  function choose(id) {
    element("query").value = "";
    close();
    setHistory([...state.history, id]);
  }
  element("query").onkeydown = (event) => {
    const options = [...list.querySelectorAll("[role=option]")];
    const current = options.findIndex((option) => option.ariaSelected === "true");
    if (event.key === "Escape") close();
    if (event.key === "Enter" && options.length) choose(options[Math.max(0, current)].dataset.item);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !options.length) return;
    event.preventDefault();
    const next = (current + step + options.length) % options.length;
    options.forEach((option, i) => { option.ariaSelected = String(i === next); });
    options[next].scrollIntoView({ block: "nearest" });
  };
  element("query").onblur = close;
}

async function sample() {
  const values = new URLSearchParams({ model: state.model, q: "" });
  const popular = await json(`/demo/items?${values}`);
  for (const { id, title: name } of popular) state.titles.set(id, name || id);
  const ids = popular.map(({ id }) => id).sort(() => Math.random() - 0.5);
  setHistory(ids.slice(0, SAMPLE_SIZE));
}

// The page can change the catalogue only if the server has a live catalogue that needs no token.
async function startCatalogue() {
  if (!(await json("/demo/features")).mayChangeCatalogue) return;
  state.live = await json(`/v1/models/${encodeURIComponent(state.model)}/items`);
  for (const [name, kind] of Object.entries(state.live.features)) {
    const id = `new-feature-${name}`;
    const input = make("input", { type: kind === "numeric" ? "number" : "text", step: "any", id, name });
    const label = kind === "numeric" ? name : `${name} (separate several with commas)`;
    element("new-features").append(make("label", { htmlFor: id }, label), input);
  }
  element("new-item").addEventListener("submit", (event) => { event.preventDefault(); addItem(); });
  element("catalogue").hidden = false;
}

async function change(items) {
  const url = `/v1/models/${encodeURIComponent(state.model)}/items:upsert`;
  try {
    await json(url, { method: "POST", headers, body: JSON.stringify({ items }) });
  } catch (error) {
    element("error").textContent = error.message;
    element("error").hidden = false;
    return;
  }
  await recommend();
}

function setInStock(id, inStock) {
  state.outOfStock = state.outOfStock.filter((item) => item !== id);
  if (!inStock) state.outOfStock.push(id);
  element("hidden-items").replaceChildren(...state.outOfStock.map((item) => {
    const back = make("button", { type: "button", className: "chip", title: "In stock again" }, title(item));
    back.dataset.item = item;
    back.addEventListener("click", () => setInStock(item, true));
    return back;
  }));
  return change([{ id, in_stock: inStock }]);
}

async function addItem() {
  const id = element("new-id").value.trim();
  const features = {};
  for (const input of element("new-features").querySelectorAll("input")) {
    const text = input.value.trim();
    if (!text) continue;
    const isNumber = state.live.features[input.name] === "numeric";
    features[input.name] = isNumber ? Number(text) : text.split(",").map((value) => value.trim()).filter(Boolean);
  }
  const item = { id, features };
  if (element("new-title").value.trim()) item.title = element("new-title").value.trim();
  state.titles.delete(id);
  state.categories.delete(id);
  await change([item]);
}

function delayed(action, milliseconds) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(action, milliseconds); };
}

async function start() {
  const address = new URLSearchParams(location.hash.slice(1));
  const models = await json("/demo/models");
  state.model = models.includes(address.get("model")) ? address.get("model") : models[0];
  const metadata = await json(`/v1/models/${encodeURIComponent(state.model)}/metadata`);
  const signatures = metadata.metadata.signature_def.signature_def;
  for (const [name, signature] of Object.entries(signatures)) state.inputs[name] = Object.keys(signature.inputs);
  element("status").textContent = `${state.model}, version ${metadata.model_spec.version}`;
  element("diversity-row").hidden = !state.inputs.serving_default.includes("diversity");
  await startFilters(address);
  for (const name of state.inputs.serving_default.filter((input) => input.startsWith("user_"))) {
    const input = make("input", { type: "text", name, id: name });
    input.addEventListener("input", delayed(recommend, SEARCH_DELAY_MS));
    element("profile").append(make("label", { htmlFor: name }, name.slice("user_".length)), input);
    element("profile").hidden = false;
  }
  for (const id of ["k", "diversity"]) {
    if (address.get(id)) element(id).value = address.get(id);
  }
  const history = (address.get("history") || "").split(",").filter(Boolean);
  showValues();
  element("query").addEventListener("input", delayed(search, SEARCH_DELAY_MS));
  element("clear").addEventListener("click", () => setHistory([]));
  element("sample").addEventListener("click", sample);
  for (const id of ["k", "diversity", "interests", "exclude-history"]) {
    element(id).addEventListener("input", () => { showValues(); saveAddress(); recommend(); });
  }
  await startCatalogue();
  await learnTitles(history);
  setHistory(history);
}

start().catch((error) => {
  element("status").textContent = "No model to show.";
  element("error").textContent = error.message;
  element("error").hidden = false;
});
