# `make` alone prints what there is.
.DEFAULT_GOAL := help
.PHONY: help run migrate migrate-down migrate-status migration test bench check fmt lint deny advisories docs users \
	docker-env docker-up docker-test docker-down clean

# The plugin, or the program that it was before.
DOCKER_COMPOSE ?= $(shell docker compose version > /dev/null 2>&1 && echo docker compose || echo docker-compose)

AUTH_API := cargo run --quiet --locked --package server --bin auth-api --

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build, migrate and serve on http://localhost:8000
	cargo run --locked --package server --bin auth-api -- serve

migrate: ## Apply the migrations that are pending
	@$(AUTH_API) migrate up

migrate-down: ## Revert the newest migration and delete its tables: it asks first, make migrate-down ARGS=--yes does not
	@$(AUTH_API) migrate down $(ARGS)

migrate-status: ## List the migrations and which are applied
	@$(AUTH_API) migrate status

migration: ## Make the files of a new migration, for both databases: make migration NAME=add_sessions
	@test -n "$(NAME)" || { echo "say its name: make migration NAME=add_sessions" >&2; exit 2; }
	@last=$$(ls migrations/sqlite | sort | tail -n 1 | cut -d_ -f1 | sed 's/^0*//'); \
	for database in sqlite postgres; do \
		folder=migrations/$$database/$$(printf '%04d' $$(($${last:-0} + 1)))_$(NAME); \
		mkdir -p "$$folder" && \
		echo "-- What $(NAME) adds." > "$$folder/up.sql" && \
		echo "-- Takes back what up.sql did." > "$$folder/down.sql" && \
		echo "$$folder/up.sql" && echo "$$folder/down.sql"; \
	done

test: ## Run every test, and count what was skipped
	cargo build --locked --package server --bin auth-api
	@skipped=$$(mktemp); trap 'rm -f "$$skipped"' EXIT; \
	TESTS_SKIPPED="$$skipped" cargo test --locked --workspace; status=$$?; \
	count=$$(wc -l < "$$skipped"); \
	if [ "$$count" -eq 0 ]; then echo "no test was skipped"; else \
		cut -f1 "$$skipped" | sort | uniq -c | awk -v count="$$count" \
			'{ n = $$1; sub(/^ *[0-9]+ /, ""); all = all (NR > 1 ? "; " : "") n " for want of " $$0 } \
			END { print count (count == 1 ? " test was" : " tests were") " skipped: " all }'; \
	fi; exit $$status

bench: ## Measure the server against yardsticks of the same run: make bench ARGS=--full
	cargo build --release --locked --package server --bin auth-api
	cargo run --release --locked --package bench --bin bench -- $(ARGS)

advisories: ## Check the dependencies for known faults; report it where the advisory database cannot be reached
	@.ci/advisories

check: lint test deny advisories docs ## Run the tests and every check
	cargo fmt --all --check

fmt: ## Format the code
	cargo fmt --all

lint: ## Check the code with clippy
	cargo clippy --locked --workspace --all-targets -- -D warnings

deny: ## Check licences, sources and banned versions (cargo install --locked cargo-deny)
	cargo deny --locked check bans licenses sources

docs: ## Build the documentation of the code, and refuse broken links
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

users: ## List the users
	@$(AUTH_API) users list

docker-env: ## Make .env with secrets and passwords, or add what is lacking
	@docker/make-env

docker-up: ## Build the image and serve on http://localhost:8000, in the background
	@$(DOCKER_COMPOSE) version > /dev/null 2>&1 || \
		{ echo "there is no Docker Compose, so nothing was written; install it (docs.docker.com/compose/install)" >&2; exit 1; }
	@$(DOCKER_COMPOSE) ps > /dev/null || \
		{ echo "Docker does not answer, so nothing was written; start it, or join the group docker" >&2; exit 1; }
	@docker/make-env
	$(DOCKER_COMPOSE) up --build --detach

docker-test: ## Run every test in a container
	$(DOCKER_COMPOSE) build test
	$(DOCKER_COMPOSE) run --rm test

docker-down: ## Stop what docker-up started; data/ stays
	$(DOCKER_COMPOSE) down

clean: ## Remove what was built; data/ stays
	cargo clean
