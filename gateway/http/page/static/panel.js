// One picture of a set, larger, and what can be done with it.

import { signed } from "./bars.js";
import { $ } from "./dom.js";

export class Panel {
  /**
   * @param {{fileOf: (picture: object) => Blob | null, onSimilar: (picture: object) => void, onCompare: (picture: object) => void}} options
   * `fileOf`: the file to show
   */
  constructor({ fileOf, onSimilar, onCompare }) {
    this.fileOf = fileOf;
    this.dialog = $("panel");
    this.order = []; // [{picture, score}] to go through
    this.at = 0;
    $("panel-previous").addEventListener("click", () => this.#go(-1));
    $("panel-next").addEventListener("click", () => this.#go(1));
    $("panel-close").addEventListener("click", () => this.dialog.close());
    $("panel-similar").addEventListener("click", () => this.#leave(onSimilar));
    $("panel-compare").addEventListener("click", () => this.#leave(onCompare));
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside the panel
    });
    this.dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) this.#go(step);
    });
    this.dialog.addEventListener("close", () => {
      if (history.state?.panel) history.back(); // its own place in the history
    });
    addEventListener("popstate", () => this.dialog.open && this.dialog.close());
  }

  /** Opens it at a picture of a list. The Back key closes it. */
  open(picture, order) {
    this.order = order;
    this.at = order.findIndex((one) => one.picture === picture);
    this.#show();
    history.pushState({ panel: true }, "", location.href);
    this.dialog.showModal();
    $("panel-similar").focus();
  }

  #leave(then) {
    history.replaceState(null, "", location.href); // what follows takes the panel's place
    this.dialog.close();
    then(this.order[this.at].picture);
  }

  #go(step) {
    const next = this.at + step;
    if (next < 0 || next >= this.order.length) return;
    this.at = next;
    this.#show();
  }

  #show() {
    const { picture, score } = this.order[this.at];
    const image = $("panel-picture");
    const file = this.fileOf(picture);
    URL.revokeObjectURL(image.src);
    image.hidden = !file;
    image.onerror = () => (image.hidden = true); // a format that only the server reads
    if (file) image.src = URL.createObjectURL(file);
    image.alt = picture.name;
    $("panel-name").textContent = picture.name;
    $("panel-score").textContent = score === null ? "" : `Cosine to what was asked: ${signed(score)}`;
    $("panel-place").textContent = `${this.at + 1} of ${this.order.length.toLocaleString("en")}`;
    $("panel-previous").disabled = this.at === 0;
    $("panel-next").disabled = this.at === this.order.length - 1;
  }
}
