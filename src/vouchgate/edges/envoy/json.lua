-- JSON as the bodies' readers share it (RFC 8259): strict, bounded, and whole, so that no other reader can see another document in the bytes.

local MAX_DEPTH = 64

-- Answer with a problem document (RFC 9457).
local function problem(handle, status, kind, title, reason, remedy)
  local id = handle:headers():get("x-request-id") or ""
  handle:respond(
    { [":status"] = tostring(status), ["content-type"] = "application/problem+json" },
    '{"type":"https://vouchgate.dev/problem/' .. kind .. '","title":"' .. title .. '","status":' .. status
      .. ',"detail":"' .. reason .. '","remedy":"' .. remedy
      .. '","request_id":"' .. id:gsub("[^%w%-]", "") .. '","decision_id":""}'
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

-- The members of the object at `at`, each as {start, end} of its value, and the index after the object; or nil and the reason.
-- Names are unique whatever their case, without escapes and in ASCII: some readers fold case, and beyond ASCII in more than one way.
local function members_of(text, at)
  local broken = "the body is not one well-formed JSON object"
  if text:sub(at, at) ~= "{" then return nil, broken end
  at = space(text, at + 1)
  local found, seen = {}, {}
  if text:sub(at, at) == "}" then return found, at + 1 end
  while true do
    if text:sub(at, at) ~= '"' then return nil, broken end
    local after, escaped = string_after(text, at)
    if not after then return nil, broken end
    if escaped then return nil, "a member's name holds an escape" end
    local key = text:sub(at + 1, after - 2)
    if key:find("[\128-\255]") then return nil, "a member's name is not ASCII" end
    if seen[key:lower()] then return nil, "a member is there twice" end
    seen[key:lower()] = true
    at = space(text, after)
    if text:sub(at, at) ~= ":" then return nil, broken end
    at = space(text, at + 1)
    local next_at = value_after(text, at, 1)
    if not next_at then return nil, broken end
    found[key] = { at, next_at - 1 }
    at = space(text, next_at)
    local mark = text:sub(at, at)
    if mark == "}" then return found, at + 1 end
    if mark ~= "," then return nil, broken end
    at = space(text, at + 1)
  end
end

-- A caller without any identity is not worth reading a body for: the map refuses it.
local function anonymous(handle)
  local ssl = handle:streamInfo():downstreamSslConnection()
  if ssl and #ssl:uriSanPeerCertificate() > 0 then return false end
  return handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn") == nil
end

-- The body of a request that may have one, or nil after an answer was given.
local function body_of(handle, refuse)
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
  return body:getBytes(0, body:length())
end
