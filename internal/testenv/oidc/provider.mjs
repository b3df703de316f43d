// An OpenID provider for tests: the certified one of npm, with people and a clock
// that the test sets. Its arguments are the file to import it from and the URL that
// people are sent back to.

import { createServer } from "node:http";

const [, , module, redirect] = process.argv;
let now = Date.now();
Date.now = () => now;

const { default: Provider } = await import(module);
const people = new Map();

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "patrol", client_secret: "the client's secret of the test", redirect_uris: [redirect],
        post_logout_redirect_uris: [new URL("/login", redirect).href], response_types: ["code"], grant_types: ["authorization_code"],
      },
    ],
    claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "profile", "email", "groups"],
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true } },
    cookies: { keys: ["a key of the test"] },
    findAccount: (ctx, id) => people.has(id) ? { accountId: id, claims: () => ({ sub: id, ...people.get(id) }) } : undefined,
    // Nobody is asked whether Patrol may know their address.
    async loadExistingGrant(ctx) {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope("openid profile email groups");
      await grant.save();
      return grant;
    },
  });
  const serve = provider.callback();
  server.on("request", async (request, response) => {
    const [, area, kind, id] = request.url.split("/");
    if (area !== "test") {
      serve(request, response);
      return;
    }
    let body = "";
    for await (const part of request) {
      body += part;
    }
    if (kind === "clock") {
      now = Number(body);
    } else {
      people.set(decodeURIComponent(id), JSON.parse(body));
    }
    response.writeHead(204).end();
  });
  console.log(issuer);
});

// The test is gone when its end of the pipe is.
process.stdin.on("end", () => process.exit(0)).resume();
