// Runs before the page is painted, so that a chosen theme does not flash.
try {
  const theme = localStorage.getItem("handful-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // storage is refused: the system's theme it is
}
