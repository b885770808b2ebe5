// All URLs are relative to the page, so that it works below a path of a proxy.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // it would ask a server elsewhere whether the document is valid; tests know
});
