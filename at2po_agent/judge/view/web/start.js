// Which kind of page this is.

const PAGES = { evaluation, training, comparison, audit: comparison };
unpack("chunk-head").then((head) => {
  meanings = head.glossary;
  PAGES[head.kind](head);
});
