// Keeps the figures of an open page true. Every page is whole without this script.
"use strict";

(() => {
  const main = document.getElementById("main");
  if (!main || !window.EventSource || !document.querySelector("[data-live]")) return;
  let busy = false;
  let again = false;

  // Takes over the parts that changed. One in which somebody is reading numbers or using a button stays as it is.
  const show = (page) => {
    for (const fresh of page.querySelectorAll("[data-live]")) {
      const shown = document.getElementById(fresh.id);
      if (!shown || shown.innerHTML === fresh.innerHTML || shown.contains(document.activeElement)) continue;
      shown.replaceChildren(...Array.from(fresh.childNodes, (node) => document.importNode(node, true)));
    }
  };

  const refresh = async () => {
    if (document.hidden || busy) {
      again = true;
      return;
    }
    busy = true;
    again = false;
    try {
      const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
      if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      else if (answer.status === 401) source.close();
    } catch {
      // The service is away: the stream comes back by itself, and the next event shows what is new.
    }
    busy = false;
    if (again && !document.hidden) setTimeout(refresh, 1000);
  };

  const source = new EventSource("/live");
  let opened = false;
  source.addEventListener("open", () => {
    // What happened while the stream was away is not told again.
    if (opened) refresh();
    opened = true;
  });
  source.addEventListener("message", refresh);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && again) refresh();
  });
})();
