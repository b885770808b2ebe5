// Swagger UI has colours for dark pages, and nothing that chooses them.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

// All URLs are relative to the page, so that it works below a path of a proxy.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  syntaxHighlight: { theme: "tomorrow-night" }, // of its themes, one whose every colour has contrast
  validatorUrl: null, // it would ask a server elsewhere whether the document is valid; tests know
});
