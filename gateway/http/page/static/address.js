// What the page shows, in the fragment of its address, so that it can be shared and the Back key works:
// #search?q=a+red+heart&view=map

let describe = () => ["", []];

/** `described()` returns the part that is shown and what it shows: ["search", [["q", "a red heart"]]]. */
export function describedBy(described) {
  describe = described;
}

/** {part, params} of the address. */
export function read() {
  const [part, query = ""] = location.hash.slice(1).split("?", 2);
  return { part, params: new URLSearchParams(query) };
}

/** Writes what is shown now. A `step` is a place to come back to; what changes while one types is none. */
export function note({ step = false } = {}) {
  const [part, params] = describe();
  const query = new URLSearchParams(params).toString();
  const fragment = query ? `#${part}?${query}` : part && `#${part}`;
  if (fragment === location.hash) return;
  const url = location.pathname + location.search + fragment;
  try {
    if (step) history.pushState(null, "", url);
    else history.replaceState(history.state, "", url);
  } catch {
    // Safari takes 100 changes in 30 seconds. A later one says what is shown then.
  }
}
