-- Loaded before every spec. busted forgets after each file what it has loaded;
-- luv must stay: loaded a second time it takes the first one's loop, and the
-- handles in it, with it when the first is collected.
require "luv"
