-- Asks Patrol before HAProxy forwards a request. In haproxy.cfg:
--
--   http-request lua.patrol http://127.0.0.1:8080/forward-auth
--
-- Only the answer 200 lets a request go on, with the headers that say who is calling.
-- Any other answer is the client's, and none at all is 503.

-- Headers that belong to the connection or the body, and those in which Patrol is
-- told what the client wants, which are set here.
local withheld = {
  ["connection"] = true, ["content-length"] = true, ["cookie"] = true, ["expect"] = true, ["keep-alive"] = true,
  ["proxy-connection"] = true, ["te"] = true, ["trailer"] = true, ["transfer-encoding"] = true,
  ["x-forwarded-for"] = true, ["x-original-method"] = true, ["x-original-uri"] = true,
}

-- In these, other proxies tell who is calling, which no client may.
local foreign = {
  "^cf%-access%-", "^client%-cert", "^impersonate%-", "^mellon%-", "^oidc%-", "^remote%-",
  "^shib%-", "^ssl%-", "^tailscale%-", "^x%-amzn%-oidc%-", "^x%-auth%-", "^x%-authenticated%-",
  "^x%-authentik%-", "^x%-client%-cert", "^x%-consumer%-", "^x%-goog%-",
  "^x%-ms%-client%-principal", "^x%-ms%-token%-", "^x%-pomerium%-", "^x%-remote%-", "^x%-saml%-",
  "^x%-ssl%-", "^x%-tls%-client%-", "^x%-token%-", "^x%-userinfo$", "^x%-vouch%-",
  "^x%-webauth%-", "^x%-forwarded%-access%-token$", "^x%-forwarded%-email$",
  "^x%-forwarded%-groups?$", "^x%-forwarded%-preferred%-username$", "^x%-forwarded%-user$",
}

-- What a denied client is told beside the body.
local told = { "cache-control", "content-type", "retry-after", "www-authenticate", "x-patrol-decision-id" }

-- What Patrol says about its decision is not for the upstream.
local about = { ["x-patrol-decision-id"] = true, ["x-patrol-scope-id"] = true, ["x-patrol-revision"] = true }

-- Patrol answers within 150 ms; a second is for a machine that stands still.
local timeout = 1000

local function unavailable(txn)
  local reply = txn:reply({ status = 503, headers = { ["retry-after"] = { "1" }, ["cache-control"] = { "no-store" } } })
  txn:done(reply)
end

-- The target as the client sent it, which is what is forwarded. In HTTP/2 it has no
-- such form, and its path comes as it was sent.
local function target(txn)
  local url = txn.sf:url()
  if url:sub(1, 1) ~= "/" and txn.sf:req_ver() == "2.0" then
    return txn.sf:pathq()
  end
  return url
end

local function ask(txn, address)
  local headers = {
    ["x-original-method"] = { txn.sf:method() },
    ["x-original-uri"] = { target(txn) },
    ["x-forwarded-for"] = { txn.sf:src() },
  }
  for name, values in pairs(txn.http:req_get_headers()) do
    if not withheld[name] then
      headers[name] = {}
      for i = 0, #values do -- they are counted from 0
        headers[name][i + 1] = values[i]
      end
    end
  end
  return core.httpclient():get({ url = address, headers = headers, timeout = timeout })
end

core.register_action("patrol", { "http-req" }, function(txn, address)
  -- What speaks for Patrol or a guardrail comes from Patrol.
  for name in pairs(txn.http:req_get_headers()) do
    local taken = name:find("^x%-patrol%-") or name:find("^x%-guardrails%-")
    for _, pattern in ipairs(foreign) do
      taken = taken or name:find(pattern)
    end
    if taken then
      txn.http:req_del_header(name)
    end
  end

  local ok, answer = pcall(ask, txn, address)
  if not ok or answer == nil or answer.status == nil or answer.status < 200 then
    return unavailable(txn)
  end

  if answer.status ~= 200 then
    local reply = txn:reply({ status = answer.status, body = answer.body })
    for _, name in ipairs(told) do
      for _, value in pairs(answer.headers[name] or {}) do
        reply:add_header(name, value)
      end
    end
    return txn:done(reply)
  end

  for name, values in pairs(answer.headers) do
    if not about[name] and (name:find("^x%-patrol%-") or name:find("^x%-guardrails%-")) then
      txn.http:req_set_header(name, values[0])
    end
  end
  txn.http:req_del_header("authorization")
  -- Where clients of model APIs send a key: there may be a token of Patrol.
  txn.http:req_del_header("x-api-key")
  txn.http:req_del_header("api-key")
  txn.http:req_del_header("x-goog-api-key")
end, 1)
