// An OpenID provider for tests: the certified one of npm, with people and a clock
// that the test sets. Its arguments are the file to import it from and the URL that
// people are sent back to.

import { createServer, request } from "node:http";

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
        post_logout_redirect_uris: [new URL("/login", redirect).href], backchannel_logout_uri: new URL("/login/oidc/backchannel-logout", redirect).href, backchannel_logout_session_required: true,
        response_types: ["code"], grant_types: ["authorization_code"],
      },
    ],
    claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "profile", "email", "groups"],
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true }, backchannelLogout: { enabled: true } },
    cookies: { keys: ["a key of the test"] },
    // It would call no address of this machine, where the test is.
    fetch: (url, { method, headers, body }) => new Promise((resolve, reject) => {
      const call = request(url, { method, headers: Object.fromEntries(headers), agent: false }, (answer) => {
        answer.resume();
        resolve(new Response(null, { status: answer.statusCode }));
      });
      call.on("error", reject).end(String(body));
    }),
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
  server.on("request", async (asked, response) => {
    const [, area, kind, id] = asked.url.split("/");
    if (area !== "test") {
      serve(asked, response);
      return;
    }
    let body = "";
    for await (const part of asked) {
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
