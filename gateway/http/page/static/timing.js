// How long the last requests took: one line, and where the time went when it is opened.

import { $, element } from "./dom.js";

/** Shows the last request of a kind ("picture", "labels"), named by `what`. */
export function showTiming(kind, what, { timing, milliseconds }) {
  const { total = milliseconds, ...stages } = timing;
  const inStages = Object.values(stages).reduce((a, b) => a + b, 0);
  const parts = {
    ...stages,
    "rest of the server": Math.max(total - inStages, 0),
    "network and browser": Math.max(milliseconds - total, 0),
  };
  const bar = element("div", { class: "stages", "aria-hidden": "true" });
  const legend = element("ul", {});
  for (const [name, spent] of Object.entries(parts)) {
    const mark = `stage-${name.split(" ")[0]}`;
    const part = element("span", { class: mark });
    part.style.flexGrow = String(spent);
    bar.append(part);
    legend.append(element("li", { class: mark }, `${name} `, element("b", {}, `${spent.toFixed(1)} ms`)));
  }
  const heading = element("p", {}, `${what} `, element("b", {}, `${milliseconds.toFixed(1)} ms`));
  const line = element("div", { "data-kind": kind, "data-what": `${what} ${Math.round(milliseconds)} ms` }, heading, bar, legend);
  const old = $("timing").querySelector(`[data-kind="${kind}"]`);
  if (old) old.replaceWith(line);
  else if (kind === "picture") $("timing").prepend(line);
  else $("timing").append(line);
  $("time").hidden = false;
  $("time-line").textContent = [...$("timing").children].map(({ dataset }) => dataset.what).join(", ");
}
