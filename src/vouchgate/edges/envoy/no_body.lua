-- Refuses a body where none is expected, at an endpoint whose bodies decide what is asked for; after json.lua.
-- A GET or DELETE is decided by its route alone: a server that reads its body all the same would be asked for something else.

function envoy_on_request(handle)
  local body = handle:body()
  if body and body:length() > 0 then
    problem(handle, 400, "unread-body", "unread body", "a request of this method has no body here", "send what is asked for by POST")
  end
end
