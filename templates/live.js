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
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    again = false;
    try {
      const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
      if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      else if (answer.status === 401) close();
    } catch {
      // The service is away: the stream comes back by itself, and shows what is new.
    }
    busy = false;
    if (again) setTimeout(refresh, 1000);
  };

  let source = null;
  const close = () => {
    source?.close();
    source = null;
  };
  const open = (now) => {
    source = new EventSource("/live");
    source.addEventListener("message", refresh);
    // What happened while there was no stream is not told again; a page that was just loaded is new.
    let isNew = now;
    source.addEventListener("open", () => {
      if (!isNew) refresh();
      isNew = false;
    });
  };

  // Streams are few: a page that nobody sees has none.
  document.addEventListener("visibilitychange", () => {
    close();
    if (!document.hidden) open(false);
  });
  if (!document.hidden) open(true);
})();
