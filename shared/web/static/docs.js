// Renders the OpenAPI document with Redoc.
"use strict";

const target = document.getElementById("redoc");
const options = {
  disableSearch: true, // It needs a worker made from a blob; the browser's own search finds everything.
  nativeScrollbars: true,
  expandResponses: "200,202",
  jsonSampleExpandLevel: 3,
  theme: {
    colors: { primary: { main: "#4338ca", light: "#4f46e5" } }, // Redoc's own light is too pale to read on white.
    typography: { fontFamily: "system-ui, sans-serif", headings: { fontFamily: "system-ui, sans-serif" } },
  },
};
Redoc.init(target.dataset.document, options, target);
