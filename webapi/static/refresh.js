// Fetches this page again and replaces its list where it changed. A poll of an unchanged database is a 304.
"use strict";

const SECONDS = 2;
let shown = null;

async function refresh() {
  const live = document.getElementById("live");
  // Not while hidden, and not under the fingers of somebody who types.
  if (!document.hidden && !live.contains(document.activeElement)) {
    try {
      const answer = await fetch(location.href, { cache: "no-cache" });
      if (answer.ok) {
        const text = await answer.text();
        if (text !== shown) {
          const page = new DOMParser().parseFromString(text, "text/html");
          live.replaceChildren(...page.getElementById("live").childNodes);
        }
        shown = text;
      }
    } catch {
      // The server is away; the next round finds it again.
    }
  }
  setTimeout(refresh, SECONDS * 1000);
}

refresh();
