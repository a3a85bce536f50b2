-- Web tokens for specs: keys and signatures are made by the openssl command, so
-- that nothing of ours verifies what it has signed itself.
--
--   local issuer = jwt.issuer()
--   issuer:token(claims, { alg = "ES256" })
--   issuer:key_set { "rsa", "ec", "ed" }      -- JSON text, as its owner would publish it
--   issuer.folder has NAME.key and NAME.pem of rsa, weak, ec, p384, ed
local core = require "longshore.core"
local json = require "longshore.json"
local support = require "spec.support"

local _M = {}
local methods = {}
local mt = { __index = methods }

--- The secret that tokens of HS256 are signed with.
_M.SECRET = ("s"):rep(32)

-- ES256 as JWS has it: two numbers of 32 bytes.
local function raw_of(der)
  local function number(at)
    local n = der:byte(at + 1)
    local digits = der:sub(at + 2, at + 1 + n):gsub("^%z+", "")
    return ("\0"):rep(32 - #digits) .. digits, at + 2 + n
  end
  local r, next_at = number(3)
  return r .. number(next_at)
end

function methods:openssl(arguments)
  local code, out = support.run(("cd %s && openssl %s"):format(support.quote(self.folder), arguments))
  if code ~= 0 then error(out, 2) end
  return out
end

local function signature(self, command)
  self:openssl(command)
  return support.read_file(self.folder .. "/sig")
end

--- How each algorithm signs: `function(self, data, name)`; `name` is a key's, or the secret.
_M.signers = {
  HS256 = function(_, data, secret) return core.hmac_sha256(secret or _M.SECRET, data) end,
  RS256 = function(self, _, name)
    return signature(self, ("dgst -sha256 -sign %s.key -out sig data"):format(name or "rsa"))
  end,
  ES256 = function(self, _, name)
    return raw_of(signature(self, ("dgst -sha256 -sign %s.key -out sig data"):format(name or "ec")))
  end,
  EdDSA = function(self, _, name)
    return signature(self, ("pkeyutl -sign -rawin -inkey %s.key -in data -out sig"):format(name or "ed"))
  end,
}

--- Makes the keys.
function _M.issuer()
  local self = setmetatable({ folder = support.tmpdir() }, mt)
  self:openssl "genrsa -out rsa.key 2048"
  self:openssl "genrsa -out weak.key 1024"
  self:openssl "ecparam -name prime256v1 -genkey -noout -out ec.key"
  self:openssl "ecparam -name secp384r1 -genkey -noout -out p384.key"
  self:openssl "genpkey -algorithm ed25519 -out ed.key"
  for _, name in ipairs { "rsa", "weak", "ec", "p384", "ed" } do
    self:openssl(("pkey -in %s.key -pubout -out %s.pem"):format(name, name))
  end
  return self
end

--- A public key in PEM.
function methods:pem(name)
  return assert(support.read_file(self.folder .. "/" .. name .. ".pem"))
end

--- A token. `header.alg` signs it unless `signer` does, with `key`.
function methods:token(claims, header, signer, key)
  header = header or { alg = "HS256" }
  local data = core.base64url(json.encode(header)) .. "." .. core.base64url(json.encode(claims))
  support.write_file(self.folder .. "/data", data)
  return data .. "." .. core.base64url(_M.signers[signer or header.alg](self, data, key))
end

--- A key set of the keys with these names.
function methods:key_set(names)
  local keys = {}
  for i, name in ipairs(names) do
    local text = self:openssl(("pkey -pubin -in %s.pem -noout -text"):format(name))
    local function number(label)
      return core.unhex((text:match(label .. ":%s*([%da-f:%s]+)"):gsub("[:%s]", "")))
    end
    if name == "rsa" then
      -- (In print a number whose first bit is set has a zero before it; a point may begin with one of its own.)
      keys[i] = { kty = "RSA", n = core.base64url((number "Modulus":gsub("^%z", ""))), e = "AQAB" }
    elseif name == "ec" then
      local point = number "pub"
      keys[i] = { kty = "EC", crv = "P-256", x = core.base64url(point:sub(2, 33)), y = core.base64url(point:sub(34)) }
    else
      keys[i] = { kty = "OKP", crv = "Ed25519", x = core.base64url(number "pub") }
    end
    keys[i].kid, keys[i].use = name, "sig"
  end
  return json.encode { keys = json.array(keys) }
end

return _M
