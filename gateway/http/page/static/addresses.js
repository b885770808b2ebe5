// Addresses of pictures, one a line, by a dialog: for who cannot drop or paste them, as on a phone.

import { $, showTrouble } from "./dom.js";
import { addressesIn } from "./incoming.js";

let take = () => {};

export function start() {
  $("addresses-form").addEventListener("submit", (event) => {
    if (event.submitter?.value === "cancel") return;
    const found = addressesIn($("addresses").value);
    if (found.length) return take(found);
    event.preventDefault();
    showTrouble("addresses-trouble", "Write one address a line. Each begins with https: or http:.");
    $("addresses").focus();
  });
}

/** Opens the dialog when a button is pressed; `given(addresses)` if there are some. */
export function asker(button, given) {
  $(button).addEventListener("click", () => {
    take = given;
    $("addresses").value = "";
    showTrouble("addresses-trouble", null);
    $("addresses-dialog").showModal();
  });
}
