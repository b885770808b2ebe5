// The badge that says that a model is a demonstration, and what it leads to: how to get the real one.

import { $ } from "./dom.js";

/**
 * @param {{notice: string | null}} model the one in use
 * @param {{name: string} | undefined} real one that this server has, too
 * @param {(name: string) => void} choose
 */
export function showDemo(model, real, choose) {
  $("demo").hidden = !model.notice;
  $("demo-text").textContent = model.notice ?? "";
  $("demo-export").hidden = Boolean(real);
  $("demo-real").hidden = !real;
  $("demo-real").textContent = real ? `Use ${real.name}` : "";
  $("demo").onclick = () => $("demo-dialog").showModal();
  $("demo-real").onclick = () => {
    $("demo-dialog").close();
    choose(real.name);
  };
}
