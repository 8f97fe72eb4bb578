-- Takes the one top-level `model` member out of a JSON body (RFC 8259), or answers with a problem document.
-- It reads the whole document, so that no other reader can see another name in it: a duplicate or escaped key, `Model`,
-- a second document, an encoding, bad UTF-8, or a name outside [A-Za-z0-9._:/@+-]{1,128} is refused.

local MAX_DEPTH = 64
local NAME = "^[%w._:/@+%-]+$"
local MAX_NAME = 128
local TITLES = { [400] = "bad model name", [411] = "body needed", [415] = "wrong content type" }

local function refuse(handle, status, reason)
  local id = handle:headers():get("x-request-id") or ""
  handle:respond(
    { [":status"] = tostring(status), ["content-type"] = "application/problem+json" },
    '{"type":"https://vouchgate.dev/problem/model-name","title":"' .. TITLES[status] .. '","status":' .. status
      .. ',"detail":"' .. reason .. '","remedy":"send one JSON object of type application/json with one plain string member `model`"'
      .. ',"request_id":"' .. id:gsub("[^%w%-]", "") .. '","decision_id":""}'
  )
end

-- One well-formed UTF-8 sequence from `at` (RFC 3629, section 4): the index after it, or nil.
local function utf8_after(text, at)
  local a, b, c, d = text:byte(at, at + 3)
  local function tail(x) return x and x >= 0x80 and x <= 0xBF end
  if a >= 0xC2 and a <= 0xDF then return tail(b) and at + 2 or nil end
  if a >= 0xE0 and a <= 0xEF then
    if not (tail(b) and tail(c)) or (a == 0xE0 and b < 0xA0) or (a == 0xED and b > 0x9F) then return nil end
    return at + 3
  end
  if a >= 0xF0 and a <= 0xF4 then
    if not (tail(b) and tail(c) and tail(d)) or (a == 0xF0 and b < 0x90) or (a == 0xF4 and b > 0x8F) then return nil end
    return at + 4
  end
  return nil
end

-- A string whose opening quote is at `at`: the index after it, and whether it holds an escape; or nil.
local function string_after(text, at)
  local escaped = false
  at = at + 1
  while true do
    at = text:match('^[^%z\1-\31"\\\127-\255]*()', at)
    local byte = text:byte(at)
    if not byte or byte < 0x20 then return nil end
    if byte == 0x22 then return at + 1, escaped end
    if byte == 0x5C then
      escaped = true
      local kind = text:sub(at + 1, at + 1)
      if kind == "u" then
        if not text:match("^%x%x%x%x", at + 2) then return nil end
        at = at + 6
      elseif kind ~= "" and ('"\\/bfnrt'):find(kind, 1, true) then
        at = at + 2
      else
        return nil
      end
    elseif byte == 0x7F then
      at = at + 1
    else
      at = utf8_after(text, at)
      if not at then return nil end
    end
  end
end

local function space(text, at) return text:match("^[ \t\r\n]*()", at) end

local function number_after(text, at)
  local after = text:match("^%-?0()", at) or text:match("^%-?[1-9]%d*()", at)
  if not after then return nil end
  if text:sub(after, after) == "." then
    after = text:match("^%.%d+()", after)
    if not after then return nil end
  end
  if text:match("^[eE]", after) then after = text:match("^[eE][+-]?%d+()", after) end
  return after
end

local function value_after(text, at, depth)
  if depth > MAX_DEPTH then return nil end
  local first = text:sub(at, at)
  if first == '"' then return (string_after(text, at)) end
  if first == "{" or first == "[" then
    local object = first == "{"
    local closing = object and "}" or "]"
    at = space(text, at + 1)
    if text:sub(at, at) == closing then return at + 1 end
    while true do
      if object then
        if text:sub(at, at) ~= '"' then return nil end
        at = string_after(text, at)
        if not at then return nil end
        at = space(text, at)
        if text:sub(at, at) ~= ":" then return nil end
        at = space(text, at + 1)
      end
      at = value_after(text, at, depth + 1)
      if not at then return nil end
      at = space(text, at)
      local mark = text:sub(at, at)
      if mark == closing then return at + 1 end
      if mark ~= "," then return nil end
      at = space(text, at + 1)
    end
  end
  if text:sub(at, at + 3) == "true" or text:sub(at, at + 3) == "null" then return at + 4 end
  if text:sub(at, at + 4) == "false" then return at + 5 end
  return number_after(text, at)
end

-- The model's name, or nil and the reason.
local function model_of(text)
  local broken = "the body is not one well-formed JSON object"
  local at = space(text, 1)
  if text:sub(at, at) ~= "{" then return nil, broken end
  at = space(text, at + 1)
  local name, count = nil, 0
  if text:sub(at, at) == "}" then return nil, "the body has no member `model`" end
  while true do
    if text:sub(at, at) ~= '"' then return nil, broken end
    local after, escaped = string_after(text, at)
    if not after then return nil, broken end
    if escaped then return nil, "a member's name holds an escape" end
    local key = text:sub(at + 1, after - 2)
    at = space(text, after)
    if text:sub(at, at) ~= ":" then return nil, broken end
    at = space(text, at + 1)
    local next_at = value_after(text, at, 1)
    if not next_at then return nil, broken end
    if key:lower() == "model" then
      if key ~= "model" then return nil, "a member is almost named `model`" end
      count = count + 1
      if count > 1 then return nil, "the member `model` is there twice" end
      if text:sub(at, at) ~= '"' then return nil, "the member `model` is not a string" end
      name = text:sub(at + 1, next_at - 2)
    end
    at = space(text, next_at)
    local mark = text:sub(at, at)
    if mark == "}" then break end
    if mark ~= "," then return nil, broken end
    at = space(text, at + 1)
  end
  if space(text, at + 1) <= #text then return nil, "something follows the JSON object" end
  if not name then return nil, "the body has no member `model`" end
  if #name > MAX_NAME or not name:match(NAME) then return nil, "the model's name has characters or a length that no model has" end
  return name
end

-- A caller without any identity is not worth reading a body for: the map refuses it.
local function anonymous(handle)
  local ssl = handle:streamInfo():downstreamSslConnection()
  if ssl and #ssl:uriSanPeerCertificate() > 0 then return false end
  return handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn") == nil
end

function envoy_on_request(handle)
  if anonymous(handle) then return end
  local headers = handle:headers()
  local kind = (headers:get("content-type") or ""):lower():gsub("%s", "")
  if headers:getNumValues("content-type") ~= 1 or (kind ~= "application/json" and kind ~= "application/json;charset=utf-8") then
    return refuse(handle, 415, "the content type is not application/json")
  end
  if headers:getNumValues("content-encoding") > 0 then
    return refuse(handle, 415, "the body has a content encoding")
  end
  local body = handle:body()
  if not body or body:length() == 0 then return refuse(handle, 411, "the request has no body") end
  local name, reason = model_of(body:getBytes(0, body:length()))
  if not name then return refuse(handle, 400, reason) end
  handle:streamInfo():dynamicMetadata():set("vg", "model", name)
end
