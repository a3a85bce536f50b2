--- The store's operations on tokens. See `longshore.store` for the contract.
--
-- Room: store.
-- @module longshore.store.tokens
local errors = require "longshore.errors"
local rows = require "longshore.store.rows"
local schema = require "longshore.store.schema"

local _M = {}

local tokens = schema.tokens

function _M.create_token(self, token)
  return rows.insert(self.db, tokens, token)
end

local SELECT_TOKEN = ("SELECT %s FROM tokens WHERE id = ?"):format(tokens.all)

function _M.token(self, id)
  local answer, err = self.db:query(SELECT_TOKEN, id)
  if not answer then return nil, err end
  if not answer[1] then return errors.fail("not_found", "there is no such token") end
  return tokens:row(answer[1])
end

function _M.tokens(self)
  local answer, err = self.db:query(("SELECT %s FROM tokens ORDER BY created_at, id"):format(tokens.all))
  if not answer then return nil, err end
  return tokens:rows(answer)
end

function _M.revoke_token(self, id, now)
  local n, err = self.db:exec("UPDATE tokens SET revoked_at = ?i WHERE id = ? AND revoked_at IS NULL",
    rows.milliseconds(now), id)
  self.db:touch(id)
  if not n then return nil, err end
  if n == 1 then return true end
  local token
  token, err = self:token(id)
  if not token then return nil, err end
  return true
end

return _M
