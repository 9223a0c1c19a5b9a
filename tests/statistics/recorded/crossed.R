# Crossed random effects by lme4 and lmerTest: what one stratum over seeds and prompts must equal.
#
#     Rscript tests/statistics/recorded/crossed.R > tests/statistics/recorded/crossed.json
#
# Two arms, R replicates, P prompts, every trial measured on every prompt. Two models of the same
# data, both by REML: of the differences d[r, p] ~ 1 + (1 | r) + (1 | p), and of all values with
# arms within replicates and prompts. Data sets on the boundary (a variance component of 0) are
# drawn again: there REML pools what is left, and the closed form does not.
suppressPackageStartupMessages({library(lme4); library(lmerTest); library(jsonlite)})

tight <- lmerControl(optimizer = "nloptwrap", calc.derivs = TRUE,
  optCtrl = list(algorithm = "NLOPT_LN_BOBYQA", xtol_rel = 1e-14, xtol_abs = 1e-14,
                 ftol_rel = 1e-15, ftol_abs = 1e-15, maxeval = 100000),
  check.conv.singular = "ignore", check.conv.grad = "ignore", check.conv.hess = "ignore")

draw <- function(R, P, sd) {
  r <- rnorm(R, 0, sd["r"]); p <- rnorm(P, 0, sd["p"]); rp <- matrix(rnorm(R * P, 0, sd["rp"]), R)
  arm <- function(effect) effect + outer(r + rnorm(R, 0, sd["ra"]), p + rnorm(P, 0, sd["pa"]), "+") +
    rp + matrix(rnorm(R * P, 0, sd["e"]), R)
  round(list(a = arm(0.1), b = arm(0)) |> simplify2array(), 6)   # R, P, arm
}

fit <- function(y) {
  R <- dim(y)[1]; P <- dim(y)[2]
  d <- data.frame(d = as.vector(y[, , 1] - y[, , 2]), r = factor(rep(1:R, P)), p = factor(rep(1:P, each = R)))
  long <- data.frame(y = as.vector(y), r = factor(rep(1:R, 2 * P)), p = factor(rep(rep(1:P, each = R), 2)),
                     arm = factor(rep(c("a", "b"), each = R * P), levels = c("b", "a")))
  one <- lmer(d ~ 1 + (1 | r) + (1 | p), d, control = tight)
  all <- lmer(y ~ arm + (1 | r) + (1 | r:arm) + (1 | p) + (1 | p:arm) + (1 | r:p), long, control = tight)
  said <- function(model, row, name) {
    s <- coef(summary(model))[row, ]
    list(difference = unname(s["Estimate"]), se = unname(s["Std. Error"]), df = unname(s["df"]),
         smallest_sd = min(as.data.frame(VarCorr(model))$sdcor))
  }
  list(differences = said(one, "(Intercept)"), arms = said(all, "arma"))
}

sizes <- list(list(R = 2, P = 10, ra = .6, pa = .5), list(R = 3, P = 10, ra = .5, pa = .8),
              list(R = 4, P = 30, ra = .3, pa = 1), list(R = 6, P = 12, ra = .8, pa = .4),
              list(R = 6, P = 40, ra = .4, pa = .6), list(R = 10, P = 24, ra = .3, pa = .9))
set.seed(20261127)
sets <- list()
for (s in sizes) {
  repeat {
    y <- draw(s$R, s$P, c(r = .5, p = 1, rp = .4, ra = s$ra, pa = s$pa, e = .7))
    f <- tryCatch(fit(y), error = function(e) NULL)
    if (!is.null(f) && f$differences$smallest_sd > .1 && f$arms$smallest_sd > .1) break
  }
  sets[[length(sets) + 1]] <- c(list(replicates = s$R, prompts = s$P, a = y[, , 1], b = y[, , 2]), f)
}
versions <- lapply(c(lme4 = "lme4", lmerTest = "lmerTest", Matrix = "Matrix"), function(p) as.character(packageVersion(p)))
cat(toJSON(list(recorded = format(Sys.Date()), R = R.version.string, packages = versions, sets = sets),
           digits = NA, auto_unbox = TRUE), "\n")
