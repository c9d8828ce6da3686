"use strict";
// Finding and unfolding: all else is there without it.
(() => {
  const boots = [...document.querySelectorAll(".boot")];
  const form = document.getElementById("finding");

  // Whoever follows a link to a boot wants to see it.
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (let at = target; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") {
        at.hidden = false;
        at.open = true;
      }
    }
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();

  if (form) {
    const word = document.getElementById("find");
    const only = document.getElementById("only");
    const find = () => {
      const words = word.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const boot of boots) {
        const text = boot.textContent.toLowerCase();
        const fits = words.every((one) => text.includes(one)) && !(only.checked && boot.classList.contains("passed"));
        boot.hidden = !fits;
        found += fits;
      }
      document.getElementById("found").textContent = `${found} of ${boots.length}`;
    };
    form.hidden = false;
    form.addEventListener("input", find);
    form.addEventListener("submit", (event) => event.preventDefault());
    const fold = (open) => () => boots.filter((boot) => !boot.hidden).forEach((boot) => { boot.open = open; });
    document.getElementById("unfold").addEventListener("click", fold(true));
    document.getElementById("fold").addEventListener("click", fold(false));
  }

  // Paper cannot be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
})();
