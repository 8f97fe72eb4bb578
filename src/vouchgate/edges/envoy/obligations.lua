-- Carries out what an allow owes on its answer: numbers rounded, members left out; after json.lua.
-- Only where the PDP's own answer says so (`x-vg-obligations`, which Envoy keeps as dynamic metadata: no caller and no server can write it).
-- 1. The upstream is asked for a plain, whole answer: what would let it compress, shorten or skip the body is taken away.
-- 2. An answer is one JSON document in UTF-8, uncompressed, read whole within the listener's buffer and within MAX_DEPTH; anything else
--    (events, binary tensors, a second document) is replaced by a 502. So is everything where reading it fails inside.
-- 3. A member is left out wherever its path leads: names are read without their escapes and in any case, twice is left out twice, an array on
--    the way is looked through element by element whether the path says `*` or not.
-- 4. Headers and trailers of the answer could tell what its body no longer does: all but a few are taken away.
-- 5. Where people agreed to the request (`agreed=parameters`), the server gets what they could read (method, path, content type, body) and
--    what carries the call: every other header, by which it could be told more, is taken away.

local DROPPED = { "accept-encoding", "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "te", "trailer" }
local KEPT = {
  [":status"] = true, ["date"] = true, ["server"] = true, ["retry-after"] = true, ["allow"] = true, ["mcp-session-id"] = true,
  ["x-request-id"] = true,
}
local AGREED = "agreed=parameters"
local SEEN = {
  ["host"] = true, ["content-type"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["accept"] = true,
  ["accept-encoding"] = true, ["user-agent"] = true, ["authorization"] = true, ["dpop"] = true, ["idempotency-key"] = true,
  ["mcp-session-id"] = true, ["mcp-protocol-version"] = true, ["mcp-method"] = true, ["mcp-name"] = true, ["x-request-id"] = true,
  ["traceparent"] = true, ["x-forwarded-for"] = true, ["x-forwarded-proto"] = true,
}
local JSON_TYPES = { ["application/json"] = true, ["application/problem+json"] = true }
local BODILESS = { ["204"] = true, ["304"] = true }
local byte = string.byte
local MAX_NUMBER = 4096 -- digits of a number; more than any server writes

-- What the PDP said: decimals or nil, the tree of members to leave out or nil; nil and false where it cannot be read.
local function owed(text)
  local decimals, tree = nil, nil
  for part in text:gmatch("[^;]+") do
    local kind, value = part:match("^%s*([%w-]+)=(%S+)%s*$")
    if kind == "rounded-answer" and value:match("^%d%d?$") then
      decimals = tonumber(value)
    elseif kind == "redaction" then
      tree = tree or {}
      for path in value:gmatch("[^,]+") do
        local node = tree
        for name in path:gmatch("[^.]+") do
          name = name:lower()
          node[name] = node[name] or {}
          node = node[name]
        end
        node[0] = true
      end
    elseif part:match("^%s*(.-)%s*$") ~= AGREED then
      return nil, false
    end
  end
  if not decimals and not tree then return nil, false end
  return decimals, tree
end

-- A member's name as the server meant it; what is not ASCII equals no name of a path.
local function plain_name(raw)
  if not raw:find("\\", 1, true) then return raw:lower() end
  local out, at = {}, 1
  while at <= #raw do
    local byte = raw:sub(at, at)
    if byte ~= "\\" then
      out[#out + 1] = byte
      at = at + 1
    elseif raw:sub(at + 1, at + 1) == "u" then
      local code = tonumber(raw:sub(at + 2, at + 5), 16)
      out[#out + 1] = code < 128 and string.char(code) or "\255"
      at = at + 6
    else
      local escape = raw:sub(at + 1, at + 1)
      out[#out + 1] = escape:match('["\\/]') or "\255"
      at = at + 2
    end
  end
  return table.concat(out):lower()
end

-- One more in the last place of a string of digits.
local function incremented(digits)
  local nines = #digits:reverse():match("^9*")
  local head, zeros = digits:sub(1, #digits - nines), ("0"):rep(nines)
  if head == "" then return "1" .. zeros end
  return head:sub(1, -2) .. string.char(head:byte(-1) + 1) .. zeros
end

-- A JSON number with at most so many decimals, half away from zero, in plain notation where anything was cut; or nil.
local function rounded(text, decimals)
  if #text > MAX_NUMBER then return nil end
  local sign, whole, part, power = text:match("^(%-?)(%d+)%.?(%d*)[eE]?([+-]?%d*)$")
  if not sign then return nil end
  local digits, point = whole .. part, #whole + (tonumber(power) or 0)
  if not digits:find("[1-9]") then return "0" end
  if #digits - point <= decimals then return text end
  local keep = point + decimals
  if keep < 0 then return "0" end
  local kept = digits:sub(1, keep)
  if digits:byte(keep + 1) >= 0x35 then kept = incremented(kept) end
  kept = ("0"):rep(decimals + 1 - #kept) .. kept
  local front = kept:sub(1, #kept - decimals):gsub("^0+(%d)", "%1")
  local back = kept:sub(#kept - decimals + 1):gsub("0+$", "")
  if front == "0" and back == "" then return "0" end
  return sign .. front .. (back ~= "" and "." .. back or "")
end

-- The first byte that is no white space.
local function past_space(text, at)
  local b = byte(text, at)
  while b == 0x20 or b == 0x0A or b == 0x0D or b == 0x09 do
    at = at + 1
    b = byte(text, at)
  end
  return at
end

local function past_digits(text, at)
  local b = byte(text, at)
  while b and b >= 0x30 and b <= 0x39 do
    at = at + 1
    b = byte(text, at)
  end
  return at
end

-- A number (RFC 8259, section 6) at `at`: the index after it, and whether it must be written anew for so many decimals; or nil.
local function number_past(text, at, decimals)
  local minus = byte(text, at) == 0x2D
  local start = minus and at + 1 or at
  local after = past_digits(text, start)
  if after == start or (byte(text, start) == 0x30 and after > start + 1) then return nil end
  local anew = minus and byte(text, start) == 0x30
  if byte(text, after) == 0x2E then
    local part = after + 1
    after = past_digits(text, part)
    if after == part then return nil end
    anew = anew or after - part > decimals
  end
  local b = byte(text, after)
  if b == 0x65 or b == 0x45 then
    b = byte(text, after + 1)
    local power = (b == 0x2B or b == 0x2D) and after + 2 or after + 1
    after = past_digits(text, power)
    if after == power then return nil end
    anew = true
  end
  return after, anew
end

local NOWHERE = {} -- no path leads here

local function with(found, node)
  if found == NOWHERE then return { node } end
  for _, known in ipairs(found) do
    if known == node then return found end
  end
  found[#found + 1] = node
  return found
end

-- The nodes under a member of this name; the second says that it is to be left out.
local function under_name(nodes, name)
  local found, out = NOWHERE, false
  for index = 1, #nodes do
    local node = nodes[index]
    local named, any = node[name], node["*"]
    if named then found, out = with(found, named), out or named[0] end
    if any then found, out = with(found, any), out or any[0] end
  end
  return found, out
end

-- The nodes under an element: the array's own, and what stands under `*`.
local function under_element(nodes)
  local found, out = NOWHERE, false
  for index = 1, #nodes do
    local node = nodes[index]
    local any = node["*"]
    found = with(found, node)
    if any then found, out = with(found, any), out or any[0] end
  end
  return found, out
end

local walk

-- An object or array: its members one by one. What is kept stays as it was written.
local function walk_inside(job, at, depth, nodes, object)
  local text, closing = job.text, object and 0x7D or 0x5D
  at = past_space(text, at + 1)
  if byte(text, at) == closing then return at + 1 end
  local kept, comma, inner, out_of_array = false, nil, nodes, false
  if not object then inner, out_of_array = under_element(nodes) end
  while true do
    local start, out = at, out_of_array
    if object then
      if byte(text, at) ~= 0x22 then return nil end
      local after = string_after(text, at)
      if not after then return nil end
      if nodes ~= NOWHERE then inner, out = under_name(nodes, plain_name(text:sub(at + 1, after - 2))) end
      at = past_space(text, after)
      if byte(text, at) ~= 0x3A then return nil end
      at = past_space(text, at + 1)
    end
    if out then
      at = value_after(text, at, depth + 1)
    else
      at = walk(job, at, depth + 1, inner)
    end
    if not at then return nil end
    local ended = at
    at = past_space(text, at)
    local mark = byte(text, at)
    if mark ~= 0x2C and mark ~= closing then return nil end
    local following = mark == 0x2C and past_space(text, at + 1) or nil
    if not out then
      kept = true
    elseif kept then
      job.flush(comma - 1)
      job.from = ended
    else
      job.flush(start - 1)
      job.from = following or at
    end
    if mark == closing then return at + 1 end
    comma, at = at, following
  end
end

function walk(job, at, depth, nodes)
  if depth > MAX_DEPTH then return nil end
  local text, decimals = job.text, job.decimals
  local first = byte(text, at)
  if first == 0x7B or first == 0x5B then
    if not decimals and nodes == NOWHERE then return value_after(text, at, depth) end
    return walk_inside(job, at, depth, nodes, first == 0x7B)
  end
  if not decimals or not first or (first ~= 0x2D and (first < 0x30 or first > 0x39)) then return value_after(text, at, depth) end
  local after, anew = number_past(text, at, decimals)
  if not after or not anew then return after end
  local number = text:sub(at, after - 1)
  local made = rounded(number, decimals)
  if not made then return nil end
  if made ~= number then
    job.flush(at - 1)
    job.out[#job.out + 1] = made
    job.from = after
  end
  return after
end

-- The document as it may leave, or nil.
local function tightened(text, decimals, tree)
  local job = { text = text, decimals = decimals, from = 1, out = {} }
  function job.flush(upto)
    if upto >= job.from then job.out[#job.out + 1] = text:sub(job.from, upto) end
  end
  local after = walk(job, past_space(text, 1), 0, tree and { tree } or NOWHERE)
  if not after or past_space(text, after) <= #text then return nil end
  job.flush(#text)
  return table.concat(job.out)
end

local function said(handle)
  local all = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.ext_authz")
  return all and all["x-vg-obligations"] or nil, all
end

local function document(all, handle)
  local known = handle:streamInfo():dynamicMetadata():get("vg") or {}
  return '{"type":"https://vouchgate.dev/problem/answer-withheld","title":"answer withheld","status":502'
    .. ',"detail":"the answer cannot be tightened as the decision asks, so it is withheld"'
    .. ',"remedy":"ask for one JSON document that is not streamed, of at most the gateway\'s body size, or for less risk","request_id":"'
    .. tostring(known["request"] or ""):gsub("[^%w%-]", "") .. '","decision_id":"'
    .. tostring(all["x-vg-decision-id"] or ""):gsub("[^%w%-]", "") .. '"}'
end

-- Whether the headers announce one plain JSON document.
local function readable(headers)
  local kind = (headers:get("content-type") or ""):lower():gsub("%s", "")
  local encoding = (headers:get("content-encoding") or "identity"):lower()
  return headers:getNumValues("content-type") == 1
    and JSON_TYPES[(kind:gsub(";charset=utf%-8$", ""))] == true
    and encoding == "identity" and headers:getNumValues("content-encoding") <= 1
    and headers:getNumValues("inference-header-content-length") == 0
end

local function bare(headers, kind)
  local names = {}
  for name in pairs(headers) do
    if not KEPT[name] then names[#names + 1] = name end
  end
  for _, name in ipairs(names) do headers:remove(name) end
  if kind then headers:replace("content-type", kind) end
  headers:replace("cache-control", "no-store")
end

function envoy_on_request(handle)
  local text = said(handle)
  if not text then return end
  local headers = handle:headers()
  if text:find(AGREED, 1, true) then
    local names = {}
    for name in pairs(headers) do
      if name:sub(1, 1) ~= ":" and not SEEN[name] then names[#names + 1] = name end
    end
    for _, name in ipairs(names) do headers:remove(name) end
  end
  if text == AGREED then return end
  for _, name in ipairs(DROPPED) do headers:remove(name) end
  handle:streamInfo():dynamicMetadata():set("vg", "request", headers:get("x-request-id") or "")
end

-- Rule 2: without reading on, since such an answer may never end.
local function withhold(handle, all)
  local headers, text, first = handle:headers(), document(all, handle), true
  bare(headers, "application/problem+json")
  headers:replace(":status", "502")
  headers:replace("content-length", tostring(#text))
  for chunk in handle:bodyChunks() do
    chunk:setBytes(first and text or "")
    first = false
  end
  if first then headers:replace("content-length", "0") end
end

-- The answer's headers were gone while its body came: they are fetched again.
local function finish(handle, body, kind, all, decimals, tree)
  local headers = handle:headers()
  if not body then return bare(headers, nil) end
  local read, made = pcall(function() return tightened(body:getBytes(0, body:length()), decimals, tree) end)
  if not read or not made then
    made, kind = document(all, handle), "application/problem+json"
    headers:replace(":status", "502")
  end
  local length = body:setBytes(made)
  bare(headers, kind)
  headers:replace("content-length", tostring(length))
end

function envoy_on_response(handle)
  local text, all = said(handle)
  if not text or text == AGREED then return end
  local headers = handle:headers()
  local decimals, tree = owed(text)
  local status = headers:get(":status")
  if BODILESS[status] or headers:get("content-length") == "0" then return bare(headers, nil) end
  if tree == false or not readable(headers) then return withhold(handle, all) end
  local kind = headers:get("content-type")
  local body = handle:body()
  -- an error from here on would let the answer pass as it came
  local finished = pcall(function() finish(handle, body, kind, all, decimals, tree) end)
  if not finished and body then body:setBytes("") end
  local trailers = handle:trailers()
  if trailers then
    local names = {}
    for name in pairs(trailers) do names[#names + 1] = name end
    for _, name in ipairs(names) do trailers:remove(name) end
  end
end
