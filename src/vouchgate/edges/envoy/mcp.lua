-- Takes what an MCP message asks for out of its JSON-RPC body, or answers with a problem document; after json.lua.
-- One message, no batch (MCP 2025-06-18, "Streamable HTTP"): JSON-RPC 2.0's members and no others, each once, whatever its case. The route
-- says which methods there are and what action each asks for, and which tools; the answer is `<action>/<tool>`, `-` for no tool.

local METHOD, MAX_METHOD = "^[%w/_$.%-]+$", 64
local TOOL, MAX_TOOL = "^[%w_.%-]+$", 128
local MEMBERS = { jsonrpc = true, id = true, method = true, params = true, result = true, error = true }
local TITLES = { [400] = "bad message", [403] = "not offered", [411] = "body needed", [415] = "wrong content type" }
local REMEDY = "send one JSON-RPC 2.0 message of type application/json whose method and tool the endpoint lists"

local function refuse(handle, status, reason)
  problem(handle, status, status == 403 and "not-offered" or "mcp-message", TITLES[status], reason, REMEDY)
end

-- A plain string without escapes that fits a pattern, or nil.
local function plain(text, value, pattern, most)
  if not value or text:sub(value[1], value[1]) ~= '"' then return nil end
  local inner = text:sub(value[1] + 1, value[2] - 1)
  return #inner <= most and inner:match(pattern) and inner or nil
end

-- The method and the tool that a message names (`response` for none), or nil and the reason.
local function asked(text)
  local found, after = members_of(text, space(text, 1))
  if not found then return nil, after end
  if space(text, after) <= #text then return nil, "something follows the JSON object" end
  for name in pairs(found) do
    if not MEMBERS[name] then return nil, "the message has a member that JSON-RPC does not know" end
  end
  if plain(text, found.jsonrpc, "^2%.0$", 3) == nil then return nil, "the member `jsonrpc` is not the string 2.0" end
  if not found.method then
    if found.id and not found.params and (found.result == nil) ~= (found.error == nil) then return "response" end
    return nil, "the message is neither a request nor a response"
  end
  if found.result or found.error then return nil, "the message is both a request and a response" end
  local method = plain(text, found.method, METHOD, MAX_METHOD)
  if not method then return nil, "the member `method` is not a plain string" end
  if method ~= "tools/call" then return method end
  if not found.params then return nil, "a call of a tool has no `params`" end
  local params, broken = members_of(text, found.params[1])
  if not params then return nil, broken end
  local tool = plain(text, params.name, TOOL, MAX_TOOL)
  if not tool then return nil, "the tool's name is not a plain string" end
  return method, tool
end

-- A server that believes these headers rather than the body must not see another thing in them.
local function headers_agree(headers, method, tool)
  local said, named = headers:get("mcp-method"), headers:get("mcp-name")
  return (said == nil or said == method) and (named == nil or tool == nil or named == tool)
    and headers:getNumValues("mcp-method") <= 1 and headers:getNumValues("mcp-name") <= 1
end

function envoy_on_request(handle)
  if anonymous(handle) then return end
  local text = body_of(handle, refuse)
  if not text then return end
  local method, tool = asked(text)
  if not method then return refuse(handle, 400, tool) end
  if not headers_agree(handle:headers(), method, tool) then return refuse(handle, 400, "a header names another method or tool than the body") end
  local offered = handle:filterContext()
  local methods = offered:get("methods")
  local action = methods[method] or (method:sub(1, 14) == "notifications/" and methods["notifications/*"]) or nil
  if not action then return refuse(handle, 403, "the method is not offered here") end
  if tool and not offered:get("tools")[tool] then return refuse(handle, 403, "the tool is not offered here") end
  handle:streamInfo():dynamicMetadata():set("vg", "model", action .. "/" .. (tool or "-"))
end
