-- Takes the one top-level `model` member out of a JSON body, or answers with a problem document; after json.lua.
-- It reads the whole document, so that no other reader can see another name in it: a duplicate or escaped key, `Model`,
-- a second document, an encoding, bad UTF-8, or a name outside [A-Za-z0-9._:/@+-]{1,128} is refused.

local NAME = "^[%w._:/@+%-]+$"
local MAX_NAME = 128
local TITLES = { [400] = "bad model name", [411] = "body needed", [415] = "wrong content type" }

local function refuse(handle, status, reason)
  problem(handle, status, "model-name", TITLES[status], reason, "send one JSON object of type application/json with one plain string member `model`")
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

function envoy_on_request(handle)
  if anonymous(handle) then return end
  local text = body_of(handle, refuse)
  if not text then return end
  local name, reason = model_of(text)
  if not name then return refuse(handle, 400, reason) end
  handle:streamInfo():dynamicMetadata():set("vg", "model", name)
end
